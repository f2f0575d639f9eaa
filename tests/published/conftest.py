"""A base model as it is published, for adapters and decoders to be put into."""

from __future__ import annotations

from pathlib import Path

import foreign
import pytest

from passionsr_cli.models.one_step import OneStepModel


@pytest.fixture
def base(tiny_model: OneStepModel, tmp_path: Path) -> Path:
    """The tiny model as a folder of diffusers, with a text encoder."""
    folder = tmp_path / "base"
    foreign.write_folder(folder, tiny_model.state_dict(), tiny_model.description, old_names=False)
    foreign.write_text_folder(
        folder / "text_encoder", foreign.openclip_state(8, 3, 11, blocks=2, seed=0)
    )
    return folder
