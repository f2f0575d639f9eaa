from __future__ import annotations

import json
from pathlib import Path

import pytest

from passionsr_cli.errors import ModelError
from passionsr_cli.registry import describe, model_names, read_description


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


def test_the_embedded_model_works_at_an_eighth_of_the_resolution() -> None:
    description = describe("mini")
    assert description.patch_size > 1
    assert description.latent_factor == 8
    assert description.sources == ()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelError, match="unknown model 'x'; known are mini, osediff"):
        describe("x")


@pytest.mark.parametrize("manifest", [[], {}, {"description": {"name": "x"}}, {"description": 3}])
def test_a_manifest_that_describes_no_model_is_refused(tmp_path: Path, manifest: object) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="does not describe a model"):
        read_description(tmp_path)
