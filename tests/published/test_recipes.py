from __future__ import annotations

from pathlib import Path

import foreign
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel
from typer.testing import CliRunner

from passionsr_cli import registry
from passionsr_cli.cli.app import app
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import rates, signal_and_noise
from passionsr_cli.published.adapter_files import PARTS
from passionsr_cli.published.recipes import find_recipe
from passionsr_cli.registry import describe


def test_a_name_is_its_own_recipe_and_others_are_passionsr_fp() -> None:
    assert find_recipe(None, "osediff").description == describe("osediff")
    assert find_recipe(None, "mine").description == describe("passionsr-fp")
    assert find_recipe("pisa-sr", "mine").description.timestep == 1


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("like: osediff\ntitle: mine\ntimestep: 249\ncolor_fix: wavelet\n")
    found, like = find_recipe(str(path), "mine").description, describe("osediff")
    assert (found.title, found.timestep, found.color_fix) == ("mine", 249, "wavelet")
    assert (found.unet, found.vae, found.context_shape) == (like.unet, like.vae, like.context_shape)


@pytest.mark.parametrize(
    ("name", "timestep", "color_fix", "licence"),
    [
        ("hypir-sd2", 200, "wavelet", "non-commercial use only"),
        ("omgsr-s-512", 273, "adain", "github.com/wuer5/OMGSR"),
    ],
)
def test_published_recipes_are_as_published(
    name: str, timestep: int, color_fix: str, licence: str
) -> None:
    found, like = describe(name), describe("osediff")
    assert (found.timestep, found.color_fix, found.prediction) == (timestep, color_fix, "noise")
    assert (found.unet, found.vae, found.context_shape) == (like.unet, like.vae, like.context_shape)
    assert licence in found.licence
    assert {source.part for source in found.sources} == {"base", "adapters"}


def test_stable_diffusion_1_5_has_its_size(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("like: stable-diffusion-1-5\ntitle: mine\nlicence: MIT\ntimestep: 499\n")
    with torch.device("meta"):
        model = OneStepModel(find_recipe(str(path), "mine").description)
    parameters = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in PARTS}
    # The numbers of weights in runwayml/stable-diffusion-v1-5.
    assert parameters == {"unet": 859_520_964, "vae": 83_653_863}


def _openai_encoder() -> CLIPTextModel:
    settings = CLIPTextConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=3,
        hidden_act="quick_gelu",
    )
    return CLIPTextModel(settings).eval()


def test_a_file_of_ones_own_makes_a_model_of_the_shape_of_stable_diffusion_1_5(
    tiny_description: ModelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Projections are convolutions there, the text encoder is OpenAI's, prompts end in ends."""
    unet = {**tiny_description.unet, "attention_head_dim": 2, "use_linear_projection": False}
    keys = ("vae", "context_shape", "patch_size", "sources")
    shape = {"unet": unet, **{key: getattr(tiny_description, key) for key in keys}}
    monkeypatch.setitem(registry._bases(), "tiny-1-5", shape)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "like: tiny-1-5\ntitle: mine\nlicence: MIT\ntimestep: 7\ncolor_fix: none\nlora_alpha: 6\n"
    )
    model = OneStepModel(find_recipe(str(recipe), "mine").description)
    encoder = _openai_encoder()
    text = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in encoder.state_dict().items()
    }
    text["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(3)
    state = foreign.ldm_state(model.state_dict(), model.description)
    torch.save({"state_dict": {**state, **text}}, tmp_path / "base.ckpt")
    layer = "unet.mid_block.attentions.0.proj_in"
    down, up = torch.randn(3, 16, 1, 1), torch.randn(16, 3, 1, 1)
    halves = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    torch.save({name.removeprefix("unet."): half for name, half in halves.items()}, tmp_path / "l")
    add = ["models", "add", "mine", "--base", str(tmp_path / "base.ckpt"), "--lora"]
    done = CliRunner().invoke(app, [*add, str(tmp_path / "l"), "--recipe", str(recipe)])
    assert done.exit_code == 0, done.output
    assert "licence: MIT" in done.output
    made = loading.load("mine")
    expected = model.get_submodule(layer).weight + 2 * torch.einsum("orhw,rcij->ocij", up, down)
    torch.testing.assert_close(made.get_submodule(layer).weight, expected)
    with torch.no_grad():
        context = encoder(torch.tensor([[9, 10, 10]]))[0]
    torch.testing.assert_close(made.context, context)
    assert made.description.timestep == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("like: stable-diffusion-1-5", "title: Field required"),
        ("lora_alpha: 0", "found '0', expected greater than 0"),
        ("timestep: 1000", "timestep must be below 1000"),
        ("time_step: 1", "unknown key 'time_step'; did you mean 'timestep'"),
        ("like: nothing", "like: unknown model 'nothing'"),
        ("prediction: v", "prediction"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        find_recipe(str(tmp_path / "x.yaml"), "x")
    with pytest.raises(ConfigError, match="no recipe 'nowhere': neither a file"):
        find_recipe("nowhere", "x")


@torch.no_grad()
def test_a_model_of_residuals_subtracts_what_it_predicts(
    tiny_description: ModelDescription,
) -> None:
    changed = tiny_description.model_copy(update={"prediction": "residual"})
    latent, predicted = torch.randn(2, 1, 4, 8, 8)
    restored = OneStepModel(changed).to_x0(latent, predicted)
    torch.testing.assert_close(restored, latent - predicted)
    assert rates(tiny_description) == signal_and_noise(tiny_description.schedule, 199)
