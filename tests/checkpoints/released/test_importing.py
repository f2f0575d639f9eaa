"""Released checkpoints, against the published formulas written out once more in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import foreign
import pytest
import released_code
import torch
import yaml
from integers import on_integers_as_far_as_exact
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from passionsr_cli import api
from passionsr_cli.checkpoints import catalogue
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.released.importing import import_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.cli.app import app
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError, ModelError, StoreError
from passionsr_cli.inference.open import open_executor
from passionsr_cli.layers.convert import find_layers, quantized_layers
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Notes
from passionsr_cli.quantization.schemes import ATTENTION
from passionsr_cli.store import CHECKPOINT, Store

BITS = 6
TOKENS = 16  # of the tiny UNet's attention in a result of 32 pixels


def _settings(bits: int = BITS, split: bool = False, **more: Any) -> dict[str, Any]:
    grid = {"weight_sym": False, "weight_sign": False, "act_sym": False, "act_sign": False}
    return {
        "quantype": "PTQ",
        "method": "saw",
        "weight_quant_bits": bits,
        "act_quant_bits": bits,
        "split": split,
        "layer_type": "2Dquant",
        "s_alpha": 0.3,
        **grid,
        **more,
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    quantize = {"only_Unet": False, "Unet": _settings(split=True), "Vae": _settings()}
    path = tmp_path / "released.yaml"
    path.write_text(yaml.safe_dump({"device": "cuda:0", "quantize_config": quantize}))
    return path


def _released_state(model: OneStepModel, part: str, split: bool) -> dict[str, Tensor]:
    """Plausible quantizers of a part, named and shaped as in the published files."""
    torch.manual_seed(7)
    state: dict[str, Tensor] = {}
    for name, kind, layer in find_layers(model):
        if not name.startswith(f"{part}."):
            continue
        ldm = f"model.{foreign.ldm_name(name, model.description) if kind != ATTENTION else name}"
        if kind == ATTENTION:
            if part == "unet":
                ldm = foreign.ldm_name(f"{name}.to_q", model.description).removesuffix(".to_q")
                tokens = 3 if name.endswith("attn2") else TOKENS
                state |= _attention_state(f"model.{ldm}", layer, tokens)
            continue
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        channels = layer.weight.shape[1]
        convolution = isinstance(layer, nn.Conv2d) or "mid.attn_1" in ldm
        scale = torch.rand(channels) + 0.5
        offset = torch.randn(channels) * 0.3
        along = (1, -1, 1, 1) if convolution else (1, -1)
        state[f"{ldm}.scale_factor"] = scale.reshape(along)
        state[f"{ldm}.offset"] = offset.reshape(along)
        if layer.bias is not None:
            state[f"{ldm}.bias_quantizer.x_min"] = torch.tensor(-0.3)
            state[f"{ldm}.bias_quantizer.x_max"] = torch.tensor(0.25)
        scaled = layer.weight.detach() * scale.reshape(1, -1, *[1] * (layer.weight.dim() - 2))
        halves = [scaled] if not split else [scaled[:, : channels // 2], scaled[:, channels // 2 :]]
        for number, half in enumerate(halves):
            shape = (-1, 1, 1, 1) if convolution else (-1, 1)
            low, high = half.flatten(1).amin(1).clamp_max(-0.01), half.flatten(1).amax(1)
            state[f"{ldm}.weight_quantizer_{number}.x_min"] = (low * 0.9).reshape(shape)
            state[f"{ldm}.weight_quantizer_{number}.x_max"] = high.clamp_min(0.01).reshape(shape)
            state[f"{ldm}.act_quantizer_{number}.x_min"] = torch.tensor(-2.0 - number)
            state[f"{ldm}.act_quantizer_{number}.x_max"] = torch.tensor(2.5 + number)
    for name, module in model.named_modules():
        if name.startswith(f"{part}.") and isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            ldm = foreign.ldm_name(name, model.description)
            state[f"model.{ldm}.weight"] = module.weight.detach().clone()
            state[f"model.{ldm}.bias"] = module.bias.detach().clone()
    return state


def _attention_state(ldm: str, layer: nn.Module, tokens: int) -> dict[str, Tensor]:
    width = layer.to_q.weight.shape[0] // layer.heads  # type: ignore[operator, union-attr, index]
    bounds = {"q": (-1.5, 1.2), "k": (-1.0, 1.4), "v": (-1.1, 0.9), "w": (0.0, 0.8)}
    state = {
        f"{ldm}.scale_factor_qk": torch.rand(width) + 0.5,
        f"{ldm}.scale_factor_vw": torch.rand(tokens) + 0.7,
    }
    for letter, (low, high) in bounds.items():
        state[f"{ldm}.act_quantizer_{letter}.x_min"] = torch.tensor(low)
        state[f"{ldm}.act_quantizer_{letter}.x_max"] = torch.tensor(high)
    return state


@pytest.fixture
def files(tiny_model: OneStepModel, tmp_path: Path) -> list[Path]:
    paths = []
    for part in ("unet", "vae"):
        path = tmp_path / f"{part}_ckpt_merge_saw_sep.pth"
        torch.save(_released_state(tiny_model, part, split=part == "unet"), path)
        paths.append(path)
    return paths


LAYERS = [
    "unet.conv_in",
    "unet.conv_out",
    "unet.down_blocks.0.downsamplers.0.conv",
    "unet.up_blocks.0.resnets.0.conv1",
    "unet.up_blocks.0.resnets.0.conv_shortcut",
    "unet.up_blocks.0.resnets.0.time_emb_proj",
    "unet.time_embedding.linear_1",
    "unet.mid_block.attentions.0.proj_in",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "vae.encoder.conv_in",
    "vae.encoder.down_blocks.0.downsamplers.0.conv",
    "vae.encoder.mid_block.attentions.0.to_q",
    "vae.decoder.mid_block.attentions.0.to_out.0",
    "vae.quant_conv",
]
EIGHT = ("unet.conv_out", "unet.time_embedding.linear_1", "vae.quant_conv")


def _input(layer: nn.Module, name: str) -> Tensor:
    torch.manual_seed(1)
    if isinstance(layer, nn.Conv2d):
        return torch.randn(2, layer.in_channels, 9, 10)
    assert isinstance(layer, nn.Linear)
    if "time_emb" in name:
        return torch.randn(2, layer.in_features)
    return torch.randn(2, 7, layer.in_features)


def _state_of(file: Path, name: str, model: OneStepModel) -> dict[str, Tensor]:
    prefix = f"model.{foreign.ldm_name(name, model.description)}."
    state = torch.load(file, weights_only=True)
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


@torch.no_grad()
def test_released_numerics_compute_what_the_published_code_computes(
    tiny_model: OneStepModel, tiny_folder: Path, files: list[Path], config: Path
) -> None:
    import_checkpoint(files, config, str(tiny_folder), "x", "released")
    loaded = load_checkpoint(find_checkpoint("x"))
    # What the model's file holds: its weights are stored in half precision.
    tiny_model.half().float()
    for name in LAYERS:
        plain = tiny_model.get_submodule(name)
        x = _input(plain, name)
        state = _state_of(files[name.startswith("vae")], name, tiny_model)
        expected = released_code.layer(plain, state, x.double(), 8 if name in EIGHT else BITS)
        found = loaded.get_submodule(name)(x).double()
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@torch.no_grad()
def test_released_attention_is_that_of_the_published_code(
    tiny_model: OneStepModel, tiny_folder: Path, files: list[Path], config: Path
) -> None:
    import_checkpoint(files, config, str(tiny_folder), "x", "released")
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    attention = load_checkpoint(find_checkpoint("x")).get_submodule(name)
    heads, width = attention.heads, attention.to_q.weight.shape[0]
    prefix = foreign.ldm_name(f"{name}.to_q", tiny_model.description).removesuffix(".to_q")
    held = torch.load(files[0], weights_only=True)
    state = {k.removeprefix(f"model.{prefix}."): v.double() for k, v in held.items()}
    q, k, v = torch.randn(3, 2, TOKENS, width).double()

    def rounded(x: Tensor, letter: str) -> Tensor:
        low, high = (state[f"act_quantizer_{letter}.x_{end}"] for end in ("min", "max"))
        return released_code.quantized(x, low, high, BITS)

    apart = [x.reshape(2, TOKENS, heads, -1).transpose(1, 2) for x in (q, k, v)]
    scale, token = state["scale_factor_qk"], state["scale_factor_vw"]
    products = rounded(apart[0] * scale, "q") @ rounded(apart[1] / scale, "k").transpose(-1, -2)
    mixed = (products * 0.35).softmax(-1) * token
    expected = rounded(mixed, "w") @ rounded(apart[2] / token[:, None], "v")
    found = attention.processor.products(q.float(), k.float(), v.float(), 0.35)
    expected = expected.transpose(1, 2).flatten(2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="scale for each of 16 tokens and found 9"):
        attention.processor.products(*(x[:, :9].float() for x in (q, k, v)), 0.35)


@torch.no_grad()
def test_standard_numerics_stay_at_the_layer(
    tiny_model: OneStepModel, tiny_folder: Path, files: list[Path], config: Path
) -> None:
    """LET's identity holds: the layer with its own weights, off by rounding and clipping alone."""
    held = [torch.load(file, weights_only=True) for file in files]
    for state in held:
        for key in state:
            if "act_quantizer" in key:
                state[key] = torch.tensor(-8.0 if key.endswith("min") else 8.0)
            elif "weight_quantizer" in key:
                state[key] = state[key] / 0.9 if key.endswith("min") else state[key]
    for file, state in zip(files, held, strict=True):
        torch.save(state, file)
    wide = {"Unet": _settings(8, split=True), "Vae": _settings(8)}
    config.write_text(yaml.safe_dump({"quantize_config": wide}))
    import_checkpoint(files, config, str(tiny_folder), "x")
    loaded = load_checkpoint(find_checkpoint("x"))
    for name in LAYERS:
        plain = tiny_model.get_submodule(name)
        x = _input(plain, name)
        error = (loaded.get_submodule(name)(x) - plain(x)).norm() / plain(x).norm()
        assert error < 0.06, name


@pytest.mark.parametrize("numerics", ["standard", "released"])
@torch.no_grad()
def test_an_import_is_a_checkpoint_like_others(
    tiny_folder: Path, files: list[Path], config: Path, tmp_path: Path, numerics: Any
) -> None:
    notes = Notes()
    entry = import_checkpoint(files, config, str(tiny_folder), None, numerics, notes)
    shown = catalogue.describe(entry)
    assert shown["name"] == f"tiny-w6a6-{'imported' if numerics == 'standard' else numerics}"
    assert not notes.texts
    again = import_checkpoint(files, config, str(tiny_folder), None, numerics, notes)
    assert (again.folder, notes.texts) == (entry.folder, [f"'{entry.name}' is finished already"])
    with pytest.raises(StoreError, match="another checkpoint named"):
        import_checkpoint(files[:1], config, str(tiny_folder), entry.name, numerics)
    layers = quantized_layers(load_checkpoint(entry))
    halves = {name for name in layers if name.endswith((".parts.0", ".parts.1"))}
    assert bool(halves) == (numerics == "standard")
    settings = UpscaleSettings(checkpoint=shown["name"], output=tmp_path / "x.png")
    Image.effect_noise((8, 8), 60).convert("RGB").save(tmp_path / "photo.png")
    (done,) = api.upscale([str(tmp_path / "photo.png")], settings)
    assert done.output_size == (32, 32)  # type: ignore[union-attr]


def test_standard_numerics_run_on_integers(
    tiny_folder: Path, files: list[Path], config: Path, tmp_path: Path
) -> None:
    """The export refuses what is further from torch than torch is from itself with tiny noise."""
    import_checkpoint(files, config, str(tiny_folder), "x")
    ran = api.export("x", "openvino", tmp_path / "exported", 64).kernels
    assert on_integers_as_far_as_exact(ran)
    assert any(name.endswith(".parts.1") for name in (*ran.integer, *dict(ran.floating)))


def test_released_numerics_are_simulated_by_torch(
    tiny_folder: Path, files: list[Path], config: Path
) -> None:
    import_checkpoint(files, config, str(tiny_folder), "x", "released")
    source, notes = resolve("x", CHECKPOINT), Notes()
    assert open_executor(source, "auto", "cpu", "auto", notes).backend == "torch"
    assert "torch simulates it" in notes.texts[0]
    with pytest.raises(ConfigError, match="use --backend torch"):
        open_executor(source, "openvino", "cpu", "auto", notes)


def test_a_file_of_one_part_fills_that_part(
    tiny_folder: Path, files: list[Path], config: Path
) -> None:
    options = ["--config", str(config), "--model", str(tiny_folder), "--json"]
    done = CliRunner().invoke(app, ["checkpoints", "import", str(files[1]), *options])
    shown = json.loads(done.stdout)
    assert shown["bits"] == "unet-fp-vae-w6a6"
    quantized = {row["name"] for row in shown["layers"] if row["weights"] or row["activations"]}
    assert quantized
    assert all(name.startswith("vae.") for name in quantized)
    listed = CliRunner().invoke(app, ["checkpoints"])
    assert "imported" in listed.output


def test_files_that_do_not_fit_are_refused(
    tiny_folder: Path, files: list[Path], config: Path, tmp_path: Path
) -> None:
    vae, path = torch.load(files[1], weights_only=True), tmp_path / "bad.pth"

    def refuse(match: str, state: Any, kind: type[Exception] = ModelError) -> None:
        torch.save(state, path)
        with pytest.raises(kind, match=match):
            import_checkpoint([path], config, str(tiny_folder), "x")
        assert not Store("checkpoint").names()

    first = "model.encoder.conv_in.scale_factor"
    refuse(
        "unknown key 'model.encoder.conv_in.lora'",
        {**vae, "model.encoder.conv_in.lora": vae[first]},
    )
    refuse("scale_factor is missing", {k: v for k, v in vae.items() if k != first})
    refuse("scale_factor has 5 values, expected 12", {**vae, first: torch.ones(1, 5, 1, 1)})
    refuse("scale_factor holds NaN or infinity", {**vae, first: vae[first] * torch.nan})
    gone = {k: v for k, v in vae.items() if "quant_conv" not in k}
    refuse(r"has nothing for vae\.quant_conv", gone)
    more = {"model.encoder.mid.extra.scale_factor": torch.ones(1)}
    refuse(r"modules are unknown \(encoder\.mid\.extra\)", {**vae, **more})
    refuse("of neither a UNet nor a VAE", {"a.weight": torch.ones(1)})
    refuse("no state dict of quantizers", {"a": 3})
    halves = {**_settings(), "split": True}
    config.write_text(yaml.safe_dump({"quantize_config": {"Vae": halves}}))
    refuse("has 1 grids, but the YAML says split: true", vae)
    config.write_text(yaml.safe_dump({"quantize_config": {"Vae": _settings(weight_sym=True)}}))
    refuse("has weight_sym: true; released checkpoints have", vae, ConfigError)
    config.write_text(yaml.safe_dump({"quantize_config": {"Vae": {"split": False}}}))
    refuse(r"quantize_config\.Vae\.weight_quant_bits: Field required", vae, ConfigError)
    config.write_text("quantize_config: {}")
    refuse(r"has no quantize_config\.Vae; give the YAML", vae, ConfigError)
    with pytest.raises(ConfigError, match="unknown numerics 'x'; use standard or released"):
        import_checkpoint([path], config, str(tiny_folder), "x", numerics="x")


def test_other_norms_are_told(tiny_folder: Path, files: list[Path], config: Path) -> None:
    vae = torch.load(files[1], weights_only=True)
    vae["model.encoder.norm_out.weight"] += 1
    torch.save(vae, files[1])
    notes = Notes()
    import_checkpoint([files[1]], config, str(tiny_folder), "x", reporter=notes)
    assert notes.texts == [
        "1 tensors of norms are not those of the model: the file was calibrated on other weights"
    ]
