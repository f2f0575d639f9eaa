"""PiSA-SR's dial: λ_pix·P + λ_sem·(S − P) of the UNets with some and with all of its adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from passionsr_cli import api
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.cli.app import app
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.exports import formats
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.published.adding import ModelFiles, add_model, put_together
from passionsr_cli.store import MODEL

LAYERS = ("conv_in", "mid_block.attentions.0.proj_in", "up_blocks.1.resnets.0.conv1", "conv_out")


@pytest.fixture
def description(tiny_description: ModelDescription) -> ModelDescription:
    values = tiny_description.model_dump()
    return ModelDescription.model_validate({**values, "realism": 1, "unets": 2})


@pytest.fixture
def adapters(tiny_model: OneStepModel, tmp_path: Path) -> Path:
    """A file as PiSA-SR's, whose adapters of pixels and of semantics share their layers."""
    state: dict[str, Tensor] = {}
    for layer in LAYERS:
        weight = tiny_model.unet.get_submodule(layer).weight
        for kind in ("pix", "sem"):
            name = f"{layer}.lora_{{}}.default_others_{kind}.weight"
            state[name.format("A")] = 0.1 * torch.randn(4, *weight.shape[1:])
            ones = [1] * (weight.dim() - 2)
            state[name.format("B")] = 0.1 * torch.randn(weight.shape[0], 4, *ones)
    path = tmp_path / "pisa_sr.pkl"
    torch.save({"lora_rank_unet_pix": 4, "lora_rank_unet_sem": 4, "state_dict_unet": state}, path)
    return path


def _predictions(
    base: Path, adapters: Path, tmp_path: Path, like: ModelDescription
) -> list[Tensor]:
    """P and S at one latent, each by a plain model that was put together without a dial."""
    held = torch.load(adapters, weights_only=True)
    pixels = {key: half for key, half in held["state_dict_unet"].items() if "_pix" in key}
    torch.save({**held, "state_dict_unet": pixels}, tmp_path / "pix.pkl")
    found = []
    for name, file in (("pixels", tmp_path / "pix.pkl"), ("both", adapters)):
        put_together(name, like.base, ModelFiles(base, file))
        found.append(loading.load(name).predict(_latent()))
    return found


def _latent() -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def test_realism_is_the_semantic_strength_at_full_strength_of_pixels(
    base: Path, adapters: Path, description: ModelDescription, tmp_path: Path
) -> None:
    pixels, both = _predictions(base, adapters, tmp_path, description)
    assert (pixels - both).norm() > 0.1 * both.norm()
    put_together("dial", description, ModelFiles(base, adapters))
    model = loading.load("dial")
    for semantic in (0, 0.3, 1):
        expected = 1.0 * pixels + semantic * (both - pixels)
        torch.testing.assert_close(model.predict(_latent(), semantic), expected)
    torch.testing.assert_close(model.predict(_latent()), both)
    assert model.predict_heads(_latent()).shape[1] == 8


def test_a_recipe_says_the_strength_of_pixels(
    base: Path, adapters: Path, description: ModelDescription, tiny_recipes: Path, tmp_path: Path
) -> None:
    """λ_pix·P + λ_sem·(S − P), by the definition and by graphs."""
    pixels, both = _predictions(base, adapters, tmp_path, description)
    recipe = (tiny_recipes / "pisa-sr-dial.yaml").read_text() + "pixel_strength: 0.6\n"
    same_timestep = recipe.replace("timestep: 1\n", f"timestep: {description.timestep}\n")
    (tmp_path / "mine.yaml").write_text(same_timestep)
    add_model("dial", base, adapters, recipe=str(tmp_path / "mine.yaml"))
    model, image = loading.load("dial"), torch.rand(1, 3, 64, 64)
    executor = open_executor(resolve("dial", MODEL), "openvino", "cpu", "fp32", SILENT)
    for semantic in (0.0, 0.4, 0.6, 1.0):
        expected = 0.6 * pixels + semantic * (both - pixels)
        torch.testing.assert_close(model.predict(_latent(), semantic), expected)
        latent = model.encode(image)
        restored = model.to_x0(latent, model.predict(latent, semantic)).numpy()
        found = executor.restore_latent(image.numpy(), semantic)
        np.testing.assert_allclose(found, restored, rtol=1e-4, atol=1e-4 * np.abs(restored).max())
    values = description.model_dump()
    with pytest.raises(ValueError, match=r"pixel_strength must be 1 without two UNets, found 0\.6"):
        ModelDescription.model_validate({**values, "unets": 1, "pixel_strength": 0.6})


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_where_the_mix_is_of_one_unet_one_runs(
    base: Path, adapters: Path, description: ModelDescription, strength: float
) -> None:
    description = description.model_copy(update={"pixel_strength": strength})
    put_together("dial", description, ModelFiles(base, adapters))
    model = loading.load("dial")
    ran: list[str] = []
    for name, unet in model.unets.items():
        unet.register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
    runs = {}
    for setting in (0.0, 0.5, strength):
        model.predict(_latent(), setting)
        runs[setting], ran[:] = list(ran), []
    both = ["unet.faithful", "unet.natural"]
    assert runs == {0.0: both[:1], 0.5: both, strength: both[1:]}


def test_every_backend_and_export_has_the_dial(
    base: Path, adapters: Path, description: ModelDescription, tmp_path: Path
) -> None:
    put_together("dial", description, ModelFiles(base, adapters))
    artifact, model = resolve("dial", MODEL), loading.load("dial")
    image = torch.rand(1, 3, 64, 64)
    api.export("dial", "openvino", tmp_path / "out", size=64)
    executors = [
        open_executor(artifact, backend, "cpu", "fp32", SILENT) for backend in ("torch", "openvino")
    ]
    exported = formats.find_format("openvino", None)
    executors.append(exported.open(tmp_path / "out", model.description))
    for setting in (0.0, 0.4, 1.0):
        latent = model.encode(image)
        expected = model.to_x0(latent, model.predict(latent, setting)).numpy()
        for executor in executors:
            found = executor.restore_latent(image.numpy(), setting)
            np.testing.assert_allclose(
                found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
            )


def test_the_command_turns_it(
    base: Path, adapters: Path, tiny_recipes: Path, tmp_path: Path
) -> None:
    """At its ends the recipe's pictures are those of plain models, P and S, and between neither."""
    held = torch.load(adapters, weights_only=True)
    pixels = {key: half for key, half in held["state_dict_unet"].items() if "_pix" in key}
    torch.save({**held, "state_dict_unet": pixels}, tmp_path / "pix.pkl")
    Image.effect_noise((16, 12), 60).convert("RGB").save(tmp_path / "photo.png")

    def run(*arguments: object) -> None:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output

    def upscaled(model: str, *options: object) -> bytes:
        result = tmp_path / "result.png"
        command = ("upscale", tmp_path / "photo.png", "--output", result, "--overwrite")
        run(*command, "--model", model, "--backend", "torch", "--precision", "fp32", *options)
        return Image.open(result).tobytes()

    recipes = {"dial": ("pisa-sr-dial", adapters), "both": ("pisa-sr", adapters)}
    recipes["pixels"] = ("pisa-sr", tmp_path / "pix.pkl")
    for name, (recipe, lora) in recipes.items():
        add = ("models", "add", name, "--base", base, "--lora", lora)
        run(*add, "--recipe", tiny_recipes / f"{recipe}.yaml")
    faithful, natural = upscaled("pixels"), upscaled("both")
    assert upscaled("dial", "--realism", 0) == faithful
    assert upscaled("dial", "--realism", 1) == upscaled("dial") == natural
    assert upscaled("dial", "--realism", 0.4) not in (faithful, natural)


def test_both_unets_are_quantized_and_keep_their_exceptions(
    base: Path, adapters: Path, description: ModelDescription, calibrate: Callable[..., str]
) -> None:
    made = put_together("dial", description, ModelFiles(base, adapters))
    found = resolve(calibrate("w4a4", model=str(made.folder)))
    bits = {
        record.name: record.plan.weight.num_bits
        for record in found.manifest.layers
        if record.plan is not None and record.weight is not None
    }
    for end in ("faithful", "natural"):
        assert bits[f"unet.{end}.conv_out"] == 8
        assert bits[f"unet.{end}.mid_block.resnets.0.conv1"] == 4
    ends = [found.load().predict(_latent(), setting) for setting in (0.0, 1.0)]
    assert (ends[0] - ends[1]).norm() > 0.1 * ends[1].norm()


def test_a_dial_needs_adapters_of_both_kinds(
    base: Path, adapters: Path, description: ModelDescription, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="differ by their adapters; give --lora FILE"):
        put_together("x", description, ModelFiles(base))
    _predictions(base, adapters, tmp_path, description)
    with pytest.raises(
        ModelError, match=r"has no adapters named …_sem; .* found default_others_pix"
    ):
        put_together("x", description, ModelFiles(base, tmp_path / "pix.pkl"))
