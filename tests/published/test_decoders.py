"""Light decoders as others publish them, against a decoder written out in plain torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from passionsr_cli import api
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.cli.app import app
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models import loading
from passionsr_cli.models.costs import measure
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.published.adding import ModelFiles, put_together
from passionsr_cli.registry import describe
from passionsr_cli.store import MODEL, Store

GROUPS = 4
State = Mapping[str, Tensor]


def _convolved(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def _normed(state: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, GROUPS, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def _residual(state: State, name: str, x: Tensor) -> Tensor:
    y = _convolved(state, f"{name}.conv1", F.silu(_normed(state, f"{name}.norm1", x)))
    y = _convolved(state, f"{name}.conv2", F.silu(_normed(state, f"{name}.norm2", y)))
    shortcut = f"{name}.conv_shortcut"
    return y + (_convolved(state, shortcut, x) if f"{shortcut}.weight" in state else x)


def _attended(state: State, name: str, x: Tensor) -> Tensor:
    tokens = _normed(state, f"{name}.group_norm", x).flatten(2).transpose(1, 2)
    q, k, v = (
        F.linear(tokens, state[f"{name}.to_{letter}.weight"], state[f"{name}.to_{letter}.bias"])
        for letter in "qkv"
    )
    mixed = ((q @ k.transpose(1, 2)) / q.shape[-1] ** 0.5).softmax(-1) @ v
    out = F.linear(mixed, state[f"{name}.to_out.0.weight"], state[f"{name}.to_out.0.bias"])
    return x + out.transpose(1, 2).reshape(x.shape)


def _decoded(state: State, latent: Tensor) -> Tensor:
    """The published architecture: two residual blocks around one attention, then two levels."""
    x = _convolved(state, "conv_in", latent)
    x = _residual(state, "mid_block.resnets.0", x)
    x = _attended(state, "mid_block.attentions.0", x)
    x = _residual(state, "mid_block.resnets.1", x)
    for level in range(2):
        for index in range(2):
            x = _residual(state, f"up_blocks.{level}.resnets.{index}", x)
        if level == 0:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = _convolved(state, "up_blocks.0.upsamplers.0.conv", x)
    return _convolved(state, "conv_out", F.silu(_normed(state, "conv_norm_out", x)))


def _image(state: State, latent: Tensor) -> Tensor:
    """The image of a z_H of the tiny model, whose scaling factor is 0.5 and whose patches are 2."""
    return F.pixel_shuffle(_decoded(state, latent / 0.5), 2) / 2 + 0.5


def _write_adcsr(path: Path, light: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of Lightning, with the VAE's encoder and a callback beside the decoder."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    callback = type("ModelCheckpoint", (), {"__module__": name})
    monkeypatch.setattr(sys.modules[name], "ModelCheckpoint", callback, raising=False)
    state = {f"decoder.{key}": tensor for key, tensor in light.items()}
    state |= {"encoder.conv_in.weight": torch.ones(1), "loss.logvar": torch.ones(1)}
    torch.save({"epoch": 3, "callbacks": {callback: callback()}, "state_dict": state}, path)
    monkeypatch.undo()


def _write_vosr(path: Path, light: State) -> None:
    config = {"in_channels": 4, "out_channels": 12, "block_out_channels": [4, 8]}
    torch.save({"model_state_dict": dict(light), "config": config}, path)


@pytest.mark.parametrize("form", ["adcsr", "vosr", "diffusers"])
def test_a_light_decoder_decodes_as_its_architecture_says(
    form: str,
    base: Path,
    light: dict[str, Tensor],
    tiny_description: ModelDescription,
    tmp_path: Path,
) -> None:
    path = tmp_path / ("light.safetensors" if form == "diffusers" else "light.pth")
    with pytest.MonkeyPatch.context() as patched:
        if form == "adcsr":
            _write_adcsr(path, light, patched)
        elif form == "vosr":
            _write_vosr(path, light)
        else:
            save_file(light, path)
    entry = put_together("x", tiny_description, ModelFiles(base, decoder=path))
    unused = ["encoder", "loss"] if form == "adcsr" else []
    assert list(entry.manifest["made_from"]["decoder"]["unused"]) == unused
    model, latent = loading.load("x"), torch.randn(1, 4, 8, 8)
    expected = _image(light, latent)
    assert (model.decode(latent) - expected).norm() < 1e-5 * expected.norm()
    assert model.description.decoder_channels == (4, 8)
    # What comes before the decoder is the base's.
    plain = put_together("plain", tiny_description, ModelFiles(base)).tensors()
    kept = [name for name in plain if name.startswith(("unet.", "vae.encoder", "vae.quant_conv"))]
    found = entry.tensors()
    assert all(torch.equal(plain[name], found[name]) for name in kept)


def test_a_convolution_before_the_decoder_is_taken_along(
    base: Path, light: dict[str, Tensor], tiny_description: ModelDescription, tmp_path: Path
) -> None:
    weight, bias = torch.randn(4, 4, 1, 1), torch.randn(4)
    before = {"post_quant_conv.weight": weight, "post_quant_conv.bias": bias}
    state = {f"decoder.{key}": tensor for key, tensor in light.items()}
    save_file({**state, **before}, tmp_path / "light.safetensors")
    put_together("x", tiny_description, ModelFiles(base, decoder=tmp_path / "light.safetensors"))
    latent = torch.randn(1, 4, 8, 8)
    mixed = F.conv2d(latent / 0.5, weight, bias)
    torch.testing.assert_close(loading.load("x").decode(latent), _image(light, mixed * 0.5))


def test_a_decoder_is_taken_out_of_another_model_here(
    base: Path, light: dict[str, Tensor], tiny_description: ModelDescription, tmp_path: Path
) -> None:
    save_file(light, tmp_path / "light.safetensors")
    first = ModelFiles(base, decoder=tmp_path / "light.safetensors")
    path = put_together("first", tiny_description, first).tensors_path
    again = put_together("again", tiny_description, ModelFiles(base, decoder=path))
    unused = ["context", "encoder", "quant_conv", "unet"]
    assert list(again.manifest["made_from"]["decoder"]["unused"]) == unused
    latent = torch.randn(1, 4, 8, 8)
    models = [loading.load(name) for name in ("first", "again")]
    assert torch.equal(models[0].decode(latent), models[1].decode(latent))


def test_it_is_quantized_exported_and_run_like_any_other(
    base: Path,
    light: dict[str, Tensor],
    tiny_description: ModelDescription,
    tmp_path: Path,
    calibrate: Callable[..., str],
) -> None:
    save_file(light, tmp_path / "light.safetensors")
    parts = ModelFiles(base, decoder=tmp_path / "light.safetensors")
    made = put_together("x", tiny_description, parts)
    name = calibrate("w8a8", model=str(made.folder))
    latent = 0.5 * torch.randn(1, 4, 16, 16).numpy()
    for artifact in (resolve("x", MODEL), resolve(name)):
        torch_image, graph_image = (
            open_executor(artifact, backend, "cpu", "fp32", SILENT).decode(latent)
            for backend in ("torch", "openvino")
        )
        assert np.abs(torch_image - graph_image).mean() < 0.01 * np.abs(torch_image).mean()
    decoder = [record for record in resolve(name).manifest.layers if "vae.decoder" in record.name]
    assert decoder
    assert all(record.plan is not None for record in decoder)
    api.export(name, "openvino", tmp_path / "out", size=64)


def test_half_the_width_of_stable_diffusions_decoder_costs_a_quarter() -> None:
    own, light = describe("osediff"), describe("osediff-light")
    parameters = [measure(each)[1].parameters for each in (own, light)]
    # 49.5 M parameters of Stable Diffusion 2.1's decoder become 12.4 M.
    assert (parameters[0] - parameters[1]) / 1e6 == pytest.approx(37.1, abs=0.05)
    assert light.base.model_dump(exclude={"name", "title", "licence", "sources"}) == own.model_dump(
        exclude={"name", "title", "licence", "sources"}
    )
    assert ModelDescription.model_validate(light.model_dump()) == light
    assert "decoder_channels" not in own.model_dump()


def test_wrong_files_get_one_line(
    base: Path,
    light: dict[str, Tensor],
    tiny_model: OneStepModel,
    tiny_description: ModelDescription,
    tmp_path: Path,
) -> None:
    path = tmp_path / "light.safetensors"

    def refuse(match: str, state: State, adapters: Path | None = None) -> None:
        save_file(dict(state), path)
        with pytest.raises(ModelError, match=match) as told:
            put_together("x", tiny_description, ModelFiles(base, adapters, decoder=path))
        assert "\n" not in str(told.value)
        assert not Store("model").exists("x")

    refuse("holds no decoder of a VAE with 2 levels", {"unet.conv_in.weight": torch.ones(1)})
    first = "up_blocks.0.resnets.0.conv1.weight"
    refuse(r"has shape \(\), expected that of a convolution", {**light, first: torch.tensor(1.0)})
    whole = {key: tensor for key, tensor in light.items() if key != "conv_out.bias"}
    refuse(
        r"is another architecture or not whole: .* 1 are missing \(vae\.decoder\.conv_out", whole
    )
    refuse("1 are unknown", {**light, "sky.weight": torch.ones(1)})
    refuse(
        r"vae\.decoder\.conv_in\.weight has shape \(8, 16, 3, 3\), expected \(8, 4, 3, 3\)",
        {**light, "conv_in.weight": torch.ones(8, 16, 3, 3)},
    )
    endless = torch.full_like(light["conv_out.bias"], torch.nan)
    refuse("holds NaN or infinity", {**light, "conv_out.bias": endless})
    adapters = {"vae.decoder.conv_in.lora_A.weight": torch.ones(2, 4, 3, 3)}
    adapters["vae.decoder.conv_in.lora_B.weight"] = torch.ones(16, 2, 1, 1)
    save_file(adapters, tmp_path / "lora.safetensors")
    refuse("changes the decoder, in whose place comes", light, tmp_path / "lora.safetensors")
    lighter = tiny_description.model_copy(update={"decoder_channels": (4, 8)})
    with pytest.raises(ModelError, match=r"decoder of \[4, 8\] channels; give it with models add"):
        put_together("x", lighter, ModelFiles(base))


def test_the_command_takes_it(
    base: Path,
    light: dict[str, Tensor],
    tiny_description: ModelDescription,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from passionsr_cli import registry

    monkeypatch.setitem(registry._registered().descriptions, "tiny", tiny_description)
    monkeypatch.setitem(registry.registered_recipes(), "tiny", registry.Recipe(like="tiny"))
    _write_vosr(tmp_path / "sd21_lwdecoder.pth", light)
    options = ["--recipe", "tiny", "--decoder", str(tmp_path / "sd21_lwdecoder.pth"), "--json"]
    done = CliRunner().invoke(app, ["models", "add", "x", "--base", str(base), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["description"]["decoder_channels"] == [4, 8]
