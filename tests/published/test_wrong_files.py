"""Files of each recipe, of other models, or half of them, given to it by the command."""

from __future__ import annotations

import json
from pathlib import Path

import foreign
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from passionsr_cli.cli.app import app
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.published.recipes import recipe_names
from passionsr_cli.store import Store

pytestmark = pytest.mark.usefixtures("tiny_recipes")
Halves = dict[str, torch.Tensor]
RANK = 4
# A layer of each part, its outputs and inputs, and how the adapters of a published file are called.
LAYERS = {
    "unet": ("mid_block.attentions.0.proj_in", 16, 16),
    "vae": ("encoder.mid_block.attentions.0.to_q", 16, 16),
}
ADAPTERS = {
    "osediff": (".default_others",),
    "osediff-light": (".default_others",),
    "passionsr-fp": (".default_others",),
    "pisa-sr": (".default_others_pix", ".default_others_sem"),
    "pisa-sr-dial": (".default_others_pix", ".default_others_sem"),
    "hypir-sd2": (".default",),
    "omgsr-s-512": ("",),
}
OF_BOTH = ("osediff", "osediff-light", "omgsr-s-512")
OF_THE_UNET = ("pisa-sr", "pisa-sr-dial", "hypir-sd2")


def _halves(part: str, name: str, inputs: int | None = None, rank_of_up: int = RANK) -> Halves:
    """Adapters of one layer as the file of a recipe has them."""
    layer, outputs, right = LAYERS[part]
    made = {}
    for adapter in ADAPTERS[name]:
        made[f"{layer}.lora_A{adapter}.weight"] = torch.randn(RANK, inputs or right)
        made[f"{layer}.lora_B{adapter}.weight"] = torch.randn(outputs, rank_of_up)
    return made


def _write(folder: Path, name: str, **parts: Halves) -> Path:
    """A recipe's adapters as they are published: a pickle of parts, bare names, folders of peft."""
    if name == "omgsr-s-512":
        for part, halves in parts.items():
            own = folder / "adapters" / f"{part}_adapter"
            own.mkdir(parents=True)
            settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}
            (own / "adapter_config.json").write_text(json.dumps(settings))
            held = {
                f"base_model.model.{key.removeprefix('encoder.')}": half
                for key, half in halves.items()
            }
            save_file(held, own / "adapter_model.safetensors")
        return folder / "adapters"
    if name == "hypir-sd2" and "vae" not in parts:
        torch.save(parts["unet"], folder / "adapters")
    else:
        states = {f"state_dict_{part}": halves for part, halves in parts.items()}
        torch.save({"rank_unet": RANK, **states}, folder / "adapters")
    return folder / "adapters"


def _whole(name: str, **changes: int) -> dict[str, Halves]:
    parts = ("unet",) if name in OF_THE_UNET else ("unet", "vae")
    return {part: _halves(part, name, **changes) for part in parts}


def _add(
    name: str, base: Path, folder: Path, adapters: Path | None = None, decoder: Path | None = None
) -> tuple[int, str]:
    """Exit code and last line of `models add`."""
    options = ["--lora", str(adapters)] if adapters else []
    options += ["--decoder", str(decoder)] if decoder else []
    recipe = folder / "recipes" / f"{name}.yaml"
    command = ["models", "add", "x", "--base", str(base), "--recipe", str(recipe)]
    done = CliRunner().invoke(app, [*command, *options])
    assert "Traceback" not in done.output
    return done.exit_code, done.stderr.splitlines()[-1]


def _refuse(name: str, base: Path, folder: Path, adapters: Path | None, expected: str) -> None:
    code, line = _add(name, base, folder, adapters)
    assert code == 1
    assert expected in line
    root = Store("model").root
    assert not root.exists() or not list(root.iterdir())


def test_every_recipe_is_tried() -> None:
    assert {*ADAPTERS, "adcsr"} == {*recipe_names()}


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_whole_is_taken(name: str, base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, name, **_whole(name))
    if name == "osediff-light":
        _refuse(name, base, tmp_path, adapters, "has a light decoder of [4, 8] channels; give it")
        return
    code, line = _add(name, base, tmp_path, adapters)
    assert code == 0, line


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_light_decoder_is_taken_with_it(
    name: str, base: Path, light: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({"model_state_dict": light}, tmp_path / "sd21_lwdecoder.pth")
    adapters = _write(tmp_path, name, **_whole(name))
    code, line = _add(name, base, tmp_path, adapters, tmp_path / "sd21_lwdecoder.pth")
    assert code == 0, line
    model = loading.load("x")
    assert model.description.decoder_channels == (4, 8)
    assert torch.isfinite(model(torch.rand(1, 3, 32, 32))).all()


def test_a_licence_that_forbids_commerce_is_said(base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, "hypir-sd2", **_whole("hypir-sd2"))
    recipe = tmp_path / "recipes" / "hypir-sd2.yaml"
    command = ["models", "add", "x", "--base", str(base), "--recipe", str(recipe)]
    done = CliRunner().invoke(app, [*command, "--lora", str(adapters)])
    assert "licence: CreativeML Open RAIL++-M" in done.stdout
    assert "non-commercial use only" in done.stdout


@pytest.mark.parametrize("name", ["adcsr", *ADAPTERS])
@pytest.mark.parametrize(
    ("width", "family"), [(768, "Stable Diffusion 1"), (2048, "Stable Diffusion XL")]
)
def test_a_base_of_another_family(
    name: str, width: int, family: str, base: Path, tiny_model: OneStepModel, tmp_path: Path
) -> None:
    config = base / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": width}))
    own = name == "adcsr"
    said = "made of net_params_200.pkl" if own else f"expected 8 (it looks like {family})"
    _refuse(name, base, tmp_path, None, said)
    state = foreign.ldm_state(tiny_model.state_dict(), tiny_model.description)
    for key in (key for key in state if "attn2.to_k.weight" in key):
        state[key] = state[key][:, :1].expand(-1, width)
    torch.save({"state_dict": state}, tmp_path / "base.ckpt")
    said = "holds no network of AdcSR" if own else f"is {family}: its UNet reads embeddings"
    _refuse(name, tmp_path / "base.ckpt", tmp_path, None, said)


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_another_base(name: str, base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, name, **_whole(name, inputs=12))
    _refuse(name, base, tmp_path, adapters, "is for another base model")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_rank_that_does_not_fit(name: str, base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, name, **_whole(name, rank_of_up=3))
    _refuse(name, base, tmp_path, adapters, "the halves do not fit")


def test_a_rank_that_is_not_the_settings(base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, "omgsr-s-512", **_whole("omgsr-s-512"))
    config = adapters / "unet_adapter" / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": 64}))
    said = "the adapter of unet.mid_block.attentions.0.proj_in is of rank 4, its settings say 64"
    _refuse("omgsr-s-512", base, tmp_path, adapters, said)


@pytest.mark.parametrize("name", ADAPTERS)
def test_half_of_an_adapter(name: str, base: Path, tmp_path: Path) -> None:
    whole = _whole(name)
    whole["unet"].pop(next(key for key in whole["unet"] if "lora_B" in key))
    _refuse(name, base, tmp_path, _write(tmp_path, name, **whole), "only half is there")


@pytest.mark.parametrize("name", OF_BOTH)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_one_part_of_two(name: str, part: str, base: Path, tmp_path: Path) -> None:
    adapters = _write(tmp_path, name, **{part: _halves(part, name)})
    said = f"changes {part} of the base, 'x' needs adapters of unet and vae"
    _refuse(name, base, tmp_path, adapters, said)


@pytest.mark.parametrize("name", OF_THE_UNET)
def test_another_recipes_adapters(name: str, base: Path, tmp_path: Path) -> None:
    whole = {part: _halves(part, name) for part in ("unet", "vae")}
    said = "changes unet and vae of the base, 'x' needs adapters of unet"
    _refuse(name, base, tmp_path, _write(tmp_path, name, **whole), said)
