from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from passionsr_cli import registry
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.catalogue import listing
from passionsr_cli.registry import describe, model_names, read_description
from passionsr_cli.system.paths import configs_folder


def test_every_registered_model_is_described() -> None:
    for name in model_names():
        description = describe(name)
        assert description.name == name
        assert description.title
        assert description.licence
        assert description.upscale_factor == 4


@pytest.mark.parametrize("name", ["osediff", "passionsr-fp"])
def test_full_size_models_have_the_published_geometry(name: str) -> None:
    description = describe(name)
    assert description.timestep == 999
    assert description.context_shape == (77, 1024)
    assert description.latent_factor == 8
    assert description.size_multiple_px == 64
    assert description.sources


def test_the_embedded_model_works_at_the_resolution_of_its_input() -> None:
    description = describe("mini")
    assert description.patch_size > 1
    assert description.latent_factor == description.upscale_factor
    assert description.sources == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"realism": None}, r"out_channels must be 4 without a dial.*found 8"),
        ({"realism": -0.1}, "greater than or equal to 0"),
        ({"realism": float("nan")}, "less than or equal to 1"),
    ],
)
def test_a_dial_needs_two_heads_and_a_setting_in_its_range(
    dial_description: ModelDescription, changes: dict[str, object], message: str
) -> None:
    assert (dial_description.heads, describe("osediff").heads) == (2, 1)
    with pytest.raises(ValidationError, match=message):
        ModelDescription.model_validate({**dial_description.model_dump(), **changes})


def test_one_head_is_too_few_for_a_dial(tiny_description: ModelDescription) -> None:
    with pytest.raises(ValidationError, match=r"must be 8 with a dial.*found 4"):
        ModelDescription.model_validate({**tiny_description.model_dump(), "realism": 0.5})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "../../x"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": "\x1b[2Jcleared"}, "name"),
        ({"name": "n" * 5000}, "name"),
        ({"unet": {"layers_per_block": 3000}}, r"unet\.layers_per_block"),
        ({"unet": {"layers_per_block": "2"}}, r"unet\.layers_per_block"),
        ({"vae": {"block_out_channels": [8] * 999}}, r"vae\.block_out_channels"),
        ({"vae": {"block_out_channels": [10**9]}}, r"vae\.block_out_channels"),
        ({"context_shape": (10**9, 8)}, "context_shape"),
        ({"patch_size": 10**6}, "patch_size"),
    ],
)
def test_what_no_model_can_be_is_refused_before_any_work(
    tiny_description: ModelDescription, changes: dict[str, Any], named: str
) -> None:
    values = tiny_description.model_dump()
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ValidationError, match=named):
        ModelDescription.model_validate(values)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelError, match="unknown model 'x'; known are mini, adcsr"):
        describe("x")


@pytest.mark.parametrize("manifest", [[], {}, {"description": {"name": "x"}}, {"description": 3}])
def test_a_manifest_that_describes_no_model_is_refused(tmp_path: Path, manifest: object) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="does not describe a model") as refused:
        read_description(tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    assert "pydantic" not in str(refused.value)


_RECIPE = "like: {}\ntitle: mine\nlicence: MIT\ntimestep: 499\n"


def test_a_recipe_may_be_like_a_registered_model_and_a_faulty_one_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(configs_folder(), tmp_path / "configs")
    monkeypatch.setattr("passionsr_cli.registry.configs_folder", lambda: tmp_path / "configs")
    recipes = {
        "a-child": _RECIPE.format("osediff-mine"),
        "osediff-mine": _RECIPE.format("osediff"),
        "circle": _RECIPE.format("round"),
        "round": _RECIPE.format("circle"),
        "typo": _RECIPE.format("osedif"),
        "field": _RECIPE.format("osediff").replace("timestep", "timestap"),
        "broken": "like: [",
        "empty": "",
    }
    for name, text in recipes.items():
        (tmp_path / "configs" / "models" / f"{name}.yaml").write_text(text)
    registry._registered.cache_clear()
    try:
        assert describe("a-child").unet == describe("osediff").unet
        assert describe("a-child").timestep == 499
        told = {
            "circle": "like: circle → round → circle is a circle",
            "typo": "like: unknown model 'osedif'; did you mean 'osediff'?",
            "field": "timestap: Extra inputs are not permitted",
            "broken": "while parsing a flow node",
            "empty": "expected 'key: value' lines",
        }
        for name, wanted in told.items():
            with pytest.raises(ModelError) as caught:
                describe(name)
            assert f".yaml: {wanted}" in str(caught.value)
            assert "\n" not in str(caught.value)
        known, damaged = listing()
        assert {*damaged} == {*told, "round"}
        assert {"a-child", "osediff", "mini"} <= {model.name for model in known}
    finally:
        registry._registered.cache_clear()
