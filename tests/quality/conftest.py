from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from passionsr_cli.imaging.files import write_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.models.loading import load

from . import measuring
from .measuring import Scores, decoded, dial, latents, photographs, read, row_at


@pytest.fixture(scope="session")
def graphs(cache: Path) -> Iterator[None]:
    """Converted graphs go where those of single tests go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASSIONSR_CACHE", str(cache))
        yield


@pytest.fixture(scope="session")
def without_unet(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, float]:
    """Folders of images whose z_H is k·z_L, with the least squares k of each image against the
    UNet's z_H, one for each setting of the dial; and how much the UNet changes them, in dB."""
    model = load(measuring.MODEL).eval()
    root, changes = tmp_path_factory.mktemp("without"), {}
    for realism in dial():
        folder = root / row_at(realism, "without")
        errors = []
        for file in photographs():
            with torch.inference_mode():
                seen, restored = latents(model, read(file), realism)
                scale = (seen * restored).sum() / seen.square().sum()
                plain = decoded(model, scale * seen)
                errors.append((plain - decoded(model, restored)).square().mean())
            write_picture(folder / file.name, Picture(plain))
        changes[folder] = -10 * float(torch.stack(errors).mean().clamp_min(1e-20).log10())
    return changes


@pytest.fixture(scope="session")
def scores(
    tmp_path_factory: pytest.TempPathFactory, graphs: None, without_unet: dict[Path, float]
) -> Scores:
    """The table of all rows, computed once."""
    return measuring.evaluated(tmp_path_factory.mktemp("scores"), list(without_unet))
