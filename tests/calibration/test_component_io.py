from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from passionsr_cli.calibration.component_io import Inputs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import accelerator


class _Images:
    """Two images that are upscaled already."""

    def __init__(self) -> None:
        self.all = torch.rand(2, 3, 32, 32, generator=torch.manual_seed(0))

    def __len__(self) -> int:
        return len(self.all)

    def upscaled(self, numbers: Sequence[int]) -> torch.Tensor:
        return self.all[list(numbers)]


@torch.no_grad()
def test_a_dial_stands_at_its_default_for_teachers(
    dial_model: OneStepModel, tmp_path: Path
) -> None:
    images: Any = _Images()
    used = accelerator("cpu", "fp32")
    inputs = Inputs(dial_model, images, tmp_path, used, SILENT)
    inputs.teach()
    latent = dial_model.encode(images.all)
    heads = dial_model.unet(latent, 199, dial_model.context.repeat(2, 1, 1)).sample
    noise = 0.75 * heads[:, :4] + 0.25 * heads[:, 4:]
    torch.testing.assert_close(inputs.noise([0, 1]), noise, rtol=1e-4, atol=1e-5)
    restored = (latent - dial_model.rates[1] * noise) / dial_model.rates[0]
    torch.testing.assert_close(inputs.target("unet")([0, 1]), restored, rtol=1e-4, atol=1e-5)
