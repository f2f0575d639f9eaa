"""A base model as it is published, for adapters and decoders to be put into."""

from __future__ import annotations

from pathlib import Path

import foreign
import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder
from torch import Tensor

from passionsr_cli import registry
from passionsr_cli.description import ModelDescription
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.paths import configs_folder


@pytest.fixture
def base(tiny_model: OneStepModel, tmp_path: Path) -> Path:
    """The tiny model as a folder of diffusers, with a text encoder."""
    folder = tmp_path / "base"
    foreign.write_folder(folder, tiny_model.state_dict(), tiny_model.description, old_names=False)
    foreign.write_text_folder(
        folder / "text_encoder", foreign.openclip_state(8, 3, 11, blocks=2, seed=0)
    )
    return folder


@pytest.fixture
def tiny_recipes(
    tiny_description: ModelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of the registered recipes, NAME.yaml, for the tiny model as their base."""
    keys = ("unet", "vae", "context_shape", "patch_size", "sources")
    shape = {key: getattr(tiny_description, key) for key in keys}
    monkeypatch.setitem(registry._bases(), "tiny", shape)
    folder = tmp_path / "recipes"
    folder.mkdir()
    for path in (configs_folder() / "models").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("like: stable-diffusion-2-1", "like: tiny")
        # A light decoder has half the channels there, too.
        text = text.replace("[64, 128, 256, 256]", "[4, 8]")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def light() -> dict[str, Tensor]:
    """Random tensors of a decoder of half the tiny model's width, as diffusers names them."""
    decoder = Decoder(
        in_channels=4,
        out_channels=12,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    return {name: torch.randn_like(tensor) * 0.3 for name, tensor in decoder.state_dict().items()}
