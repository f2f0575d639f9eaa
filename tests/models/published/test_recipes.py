from __future__ import annotations

from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ConfigError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.published.recipes import find_recipe
from passionsr_cli.models.schedule import rates, signal_and_noise
from passionsr_cli.registry import ModelDescription, describe


def test_a_name_is_its_own_recipe_and_others_are_passionsr_fp() -> None:
    assert find_recipe(None, "osediff") == describe("osediff")
    assert find_recipe(None, "mine") == describe("passionsr-fp")
    assert find_recipe("pisa-sr", "mine").timestep == 1


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("like: osediff\ntitle: mine\ntimestep: 249\ncolor_fix: wavelet\n")
    found, like = find_recipe(str(path), "mine"), describe("osediff")
    assert (found.title, found.timestep, found.color_fix) == ("mine", 249, "wavelet")
    assert (found.unet, found.vae, found.context_shape) == (like.unet, like.vae, like.context_shape)


@pytest.mark.parametrize(
    ("text", "match"),
    [
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
