"""AdcSR as it is published, against its architecture written out in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from passionsr_cli import api, registry
from passionsr_cli.benchmark.subjects import make_checkpoint, make_random_model
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
from passionsr_cli.retiming.retime import described_at
from passionsr_cli.store import MODEL, Store
from passionsr_cli.tiling.upscaler import TiledUpscaler

State = Mapping[str, Tensor]
# Groups of a normalization by its channels: the first of 32, 24, 16 and so on that divides them.
GROUPS = {12: 12, 24: 24, 32: 32, 44: 4, 64: 32}
HEADS = {12: 3, 32: 4}
DECODER_GROUPS = 4
# The UNet's blocks of two levels, in the order in which they run.
BLOCKS = ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1")
NUMBERED = (*BLOCKS, "conv_norm_out", "conv_act", "conv_out")


def _narrow() -> ModelDescription:
    """AdcSR with a UNet of two levels, and a decoder of a sixteenth of its width."""
    values = describe("adcsr").model_dump()
    values["unet"].update(
        block_out_channels=[12, 32],
        out_channels=8,
        attention_head_dim=[3, 4],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
    )
    values["vae"].update(
        block_out_channels=[4, 4, 8, 8], latent_channels=8, norm_num_groups=DECODER_GROUPS
    )
    return ModelDescription.model_validate({**values, "name": "narrow"})


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> ModelDescription:
    description = _narrow()
    monkeypatch.setitem(registry._registered().descriptions, "narrow", description)
    monkeypatch.setitem(registry.registered_recipes(), "narrow", registry.Recipe(like="narrow"))
    return description


@pytest.fixture
def state(narrow: ModelDescription) -> dict[str, Tensor]:
    """Random tensors by their names here."""
    model = OneStepModel(narrow)
    drawn = {key: held + 0.1 * torch.randn_like(held) for key, held in model.state_dict().items()}
    return {key: tensor for key, tensor in drawn.items() if key != "context"}


@pytest.fixture
def files(state: State, tmp_path: Path) -> tuple[Path, Path]:
    """The two files that are published: the network, and the decoder it ends in."""
    network, decoder = {}, {}
    for name, tensor in state.items():
        if name.startswith("unet."):
            inner = name.removeprefix("unet.")
            network[f"module.body.1.{inner}"] = tensor
            for number, block in enumerate(NUMBERED):
                if inner.startswith(f"{block}."):
                    leaf = inner.removeprefix(f"{block}.")
                    network[f"module.body.1.body.{number}.{leaf}"] = tensor
        elif name.startswith("vae.decoder.mid_block."):
            network[f"module.body.2.{name.removeprefix('vae.decoder.mid_block.')}"] = tensor
            decoder[name.removeprefix("vae.")] = torch.zeros_like(tensor)
        else:
            decoder[name.removeprefix("vae.")] = tensor
    decoder |= {"decoder.conv_in.weight": torch.ones(8, 4, 3, 3), "loss.logvar": torch.ones(1)}
    torch.save(network, tmp_path / "net_params_200.pkl")
    torch.save({"state_dict": decoder}, tmp_path / "halfDecoder.ckpt")
    return tmp_path / "net_params_200.pkl", tmp_path / "halfDecoder.ckpt"


class Published:
    """The published network in plain torch, of its two files."""

    def __init__(self, network: State, decoder: State) -> None:
        self.state = {name.removeprefix("module."): held for name, held in network.items()}
        self.state |= {name: held for name, held in decoder.items() if "mid_block" not in name}

    def __call__(self, lr: Tensor) -> Tensor:
        """The image in [-1, 1] of LR images in [-1, 1]."""
        x = self.convolved("body.1.conv_in", F.pixel_unshuffle(lr, 2))
        skips = [x]
        for level in range(2):
            block = f"body.1.down_blocks.{level}"
            for index in range(2):
                x = self.residual(f"{block}.resnets.{index}", x)
                if level == 0:
                    x = self.transformed(f"{block}.attentions.{index}", x)
                skips.append(x)
            if level == 0:
                x = self.convolved(f"{block}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
        x = self.residual("body.1.mid_block.resnets.0", x)
        x = self.transformed("body.1.mid_block.attentions.0", x)
        x = self.residual("body.1.mid_block.resnets.1", x)
        for level in range(2):
            block = f"body.1.up_blocks.{level}"
            for index in range(3):
                x = self.residual(f"{block}.resnets.{index}", torch.cat([x, skips.pop()], 1))
                if level == 1:
                    x = self.transformed(f"{block}.attentions.{index}", x)
            if level == 0:
                x = self.enlarged(f"{block}.upsamplers.0.conv", x)
        x = self.convolved("body.1.conv_out", F.silu(self.normed("body.1.conv_norm_out", x, 1e-5)))
        return self.decoded(x)

    def decoded(self, x: Tensor) -> Tensor:
        x = self.residual("body.2.resnets.0", x, DECODER_GROUPS)
        x = self.attended_image("body.2.attentions.0", x)
        x = self.residual("body.2.resnets.1", x, DECODER_GROUPS)
        for level in range(4):
            block = f"decoder.up_blocks.{level}"
            for index in range(3):
                x = self.residual(f"{block}.resnets.{index}", x, DECODER_GROUPS)
            if level < 3:
                x = self.enlarged(f"{block}.upsamplers.0.conv", x)
        x = F.silu(self.normed("decoder.conv_norm_out", x, 1e-6, DECODER_GROUPS))
        return self.convolved("decoder.conv_out", x)

    def convolved(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.state[f"{name}.bias"], stride=stride, padding=padding)

    def enlarged(self, name: str, x: Tensor) -> Tensor:
        return self.convolved(name, F.interpolate(x, scale_factor=2.0, mode="nearest"))

    def normed(self, name: str, x: Tensor, eps: float, groups: int = 0) -> Tensor:
        held = (self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        return F.group_norm(x, groups or GROUPS[x.shape[1]], *held, eps)

    def residual(self, name: str, x: Tensor, groups: int = 0) -> Tensor:
        eps = 1e-6 if groups else 1e-5
        y = self.convolved(f"{name}.conv1", F.silu(self.normed(f"{name}.norm1", x, eps, groups)))
        y = self.convolved(f"{name}.conv2", F.silu(self.normed(f"{name}.norm2", y, eps, groups)))
        shortcut = f"{name}.conv_shortcut"
        return y + (self.convolved(shortcut, x) if f"{shortcut}.weight" in self.state else x)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def attended(self, name: str, x: Tensor, heads: int) -> Tensor:
        q, k, v = (
            self.linear(f"{name}.to_{letter}", x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for letter in "qkv"
        )
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.linear(f"{name}.to_out.0", mixed.transpose(1, 2).flatten(2))

    def attended_image(self, name: str, x: Tensor) -> Tensor:
        normed = self.normed(f"{name}.group_norm", x, 1e-6, DECODER_GROUPS)
        tokens = self.attended(name, normed.flatten(2).mT, 1)
        return x + tokens.mT.reshape(x.shape)

    def transformed(self, name: str, x: Tensor) -> Tensor:
        y = self.linear(f"{name}.proj_in", self.normed(f"{name}.norm", x, 1e-6).flatten(2).mT)
        block = f"{name}.transformer_blocks.0"
        y = y + self.attended(
            f"{block}.attn1", self.layer_normed(f"{block}.norm1", y), HEADS[x.shape[1]]
        )
        inner, gate = self.linear(
            f"{block}.ff.net.0.proj", self.layer_normed(f"{block}.norm3", y)
        ).chunk(2, -1)
        y = y + self.linear(f"{block}.ff.net.2", inner * F.gelu(gate))
        return x + self.linear(f"{name}.proj_out", y).mT.reshape(x.shape)

    def layer_normed(self, name: str, x: Tensor) -> Tensor:
        held = (self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        return F.layer_norm(x, x.shape[-1:], *held)


def _published(files: tuple[Path, Path]) -> Published:
    network, decoder = (torch.load(path, weights_only=True) for path in files)
    return Published(network, decoder["state_dict"])


def _made(narrow: ModelDescription, files: tuple[Path, Path]) -> OneStepModel:
    put_together("x", narrow, ModelFiles(files[0], decoder=files[1]))
    return loading.load("x")


def test_it_computes_what_its_architecture_says(
    narrow: ModelDescription, files: tuple[Path, Path]
) -> None:
    lr = torch.rand(2, 3, 16, 24)
    expected = _published(files)(lr * 2 - 1) / 2 + 0.5
    repeated = lr.repeat_interleave(4, -1).repeat_interleave(4, -2)
    found = _made(narrow, files)(repeated)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_the_upscaler_shows_it_the_image_itself(
    narrow: ModelDescription, files: tuple[Path, Path]
) -> None:
    lr = torch.rand(1, 3, 16, 24)
    expected = (_published(files)(lr * 2 - 1) / 2 + 0.5).clamp(0, 1)[0].numpy()
    _made(narrow, files)
    executor = open_executor(resolve("x", MODEL), "openvino", "cpu", "fp32", SILENT)
    upscaler = TiledUpscaler(executor, tile_px=0, color_fix="none")
    found = upscaler.upscale(lr[0].numpy()).rgb
    assert np.abs(found - expected).max() < 1e-4


def test_tiles_see_the_pixels_that_are_theirs(
    narrow: ModelDescription, files: tuple[Path, Path]
) -> None:
    _made(narrow, files)
    executor = open_executor(resolve("x", MODEL), "torch", "cpu", "fp32", SILENT)
    seen: list[np.ndarray] = []
    restore = executor.restore_latent

    def watch(upscaled: np.ndarray, realism: float | None = None) -> np.ndarray:
        seen.append(upscaled)
        return restore(upscaled, realism)

    executor.restore_latent = watch  # type: ignore[method-assign]
    lr = torch.rand(3, 64, 64).numpy()
    upscaler = TiledUpscaler(executor, tile_px=128, overlap_px=32, color_fix="none")
    assert upscaler.upscale(lr).tiles == len(seen) > 1
    np.testing.assert_array_equal(seen[0][0, :, ::4, ::4], lr[:, :32, :32])
    np.testing.assert_array_equal(seen[-1][0, :, ::4, ::4], lr[:, -32:, -32:])


def test_it_is_calibrated_run_on_integers_and_exported(
    narrow: ModelDescription,
    files: tuple[Path, Path],
    tmp_path: Path,
    calibrate: Callable[..., str],
) -> None:
    _made(narrow, files)
    folder = str(Store(MODEL).folder("x"))
    name = calibrate("w8a8", model=folder, crop_px=64)
    found = resolve(name)
    layers = [record for record in found.manifest.layers if record.weight is not None]
    assert layers
    assert all(record.plan is not None for record in layers)
    # It has run and been compared with its definition by then.
    kernels = api.export(name, "openvino", tmp_path / "out", size=64).kernels
    assert {*kernels.integer, *kernels.folded} == {record.name for record in layers}
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (about["encoder"], about["prediction"]) == ("unshuffle", "sample")
    assert about["signal_rate"] is None


def test_methods_that_learn_fit_it(
    narrow: ModelDescription, files: tuple[Path, Path], calibrate: Callable[..., str]
) -> None:
    _made(narrow, files)
    fit = {"lsq": {"fit": {"steps": 2, "learning_rate": 0.1}}}
    folder = str(Store(MODEL).folder("x"))
    name = calibrate("w4a4", model=folder, crop_px=64, method="lsq", method_settings=fit)
    assert resolve(name).manifest.stages


def test_it_has_the_published_size_and_work() -> None:
    costs = measure(describe("adcsr"))
    assert sum(part.parameters for part in costs) / 1e6 == pytest.approx(456, abs=0.5)
    # 496 G multiplications and additions.
    assert sum(part.operations for part in costs) / 2e9 == pytest.approx(496, rel=0.003)
    assert ModelDescription.model_validate(describe("adcsr").model_dump()) == describe("adcsr")
    assert "encoder" not in describe("osediff").model_dump()


def test_its_speed_is_measured_without_its_weights(
    narrow: ModelDescription, tmp_path: Path
) -> None:
    make_random_model("narrow", str(tmp_path / "random"))
    make_checkpoint(str(tmp_path / "random"), "w8a8", "passionsr", 64, str(tmp_path / "made"))
    assert loading.load(str(tmp_path / "random")).description.encoder == "unshuffle"


def test_wrong_files_get_one_line(
    narrow: ModelDescription, files: tuple[Path, Path], base: Path, tmp_path: Path
) -> None:
    network, decoder = files

    def refuse(match: str, parts: ModelFiles) -> None:
        with pytest.raises(ModelError, match=match) as told:
            put_together("x", narrow, parts)
        assert "\n" not in str(told.value)
        assert not Store(MODEL).exists("x")

    refuse("ends in the decoder's middle; give the decoder, halfDecoder", ModelFiles(network))
    refuse(
        "is a folder; 'narrow' is made of net_params_200.pkl", ModelFiles(base, None, None, decoder)
    )
    refuse(
        "holds no network of AdcSR: found state_dict|no tensors",
        ModelFiles(decoder, None, None, decoder),
    )
    refuse("holds no decoder of a VAE with 4 levels", ModelFiles(network, None, None, network))
    whole = torch.load(network, weights_only=True)
    torch.save({k: v for k, v in whole.items() if "conv_in" not in k}, tmp_path / "part.pkl")
    refuse(r"2 are missing \(unet.conv_in.bias", ModelFiles(tmp_path / "part.pkl", decoder=decoder))
    torch.save({**whole, "module.sky": torch.ones(1)}, tmp_path / "more.pkl")
    refuse(r"1 are unknown \(unet.sky", ModelFiles(tmp_path / "more.pkl", decoder=decoder))
    save_file({"embedding": torch.zeros(1, 1)}, tmp_path / "context.safetensors")
    refuse("has no prompt", ModelFiles(network, None, tmp_path / "context.safetensors", decoder))


def test_it_has_no_timestep_to_move(narrow: ModelDescription) -> None:
    with pytest.raises(ModelError, match="predicts the sample: no noise schedule"):
        described_at(narrow, 5)


def test_the_command_takes_it(narrow: ModelDescription, files: tuple[Path, Path]) -> None:
    options = ["--base", str(files[0]), "--decoder", str(files[1]), "--json"]
    done = CliRunner().invoke(app, ["models", "add", "narrow", *options])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["description"]["encoder"] == "unshuffle"
    assert [Path(file["file"]).name for file in made["made_from"]["base"]] == [
        "net_params_200.pkl",
        "halfDecoder.ckpt",
    ]
