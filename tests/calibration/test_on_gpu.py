"""Calibration on an NVIDIA GPU: every method in every precision, and on with another device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from calibrating import small_method
from reporting import killed_at

from passionsr_cli import api
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.methods import METHODS

pytestmark = pytest.mark.gpu


def _settings(model: Path, method: str, device: str, precision: str) -> CalibrationSettings:
    values: dict[str, Any] = {"model": str(model), "unet": "w4a4", "vae": "w4a4"}
    values |= {"crops": 4, "crop_px": 32} | small_method(method)
    return CalibrationSettings.model_validate(values | {"device": device, "precision": precision})


@pytest.mark.parametrize(
    ("method", "precision"),
    [*((method, "bf16") for method in METHODS), ("passionsr", "fp32"), ("passionsr", "fp16")],
)
def test_every_method_and_every_precision(method: str, precision: str, tiny_folder: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    made = api.calibrate(_settings(tiny_folder, method, "cuda", precision), "mine")
    manifest = made.manifest
    assert manifest.image_psnr is not None
    assert manifest.image_psnr > 0
    # The GPU's memory, not the process's, which holds torch.
    assert 0 < manifest.peak_memory_bytes < 10**9
    assert load_checkpoint(made)(torch.rand(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize(
    ("method", "place"), [("lsq", ("steps", 1)), ("qdm", ("unet: observing", 4))]
)
def test_a_calibration_goes_on_with_another_device(
    method: str, place: tuple[str, int], first: str, then: str, tiny_folder: Path
) -> None:
    whole = api.calibrate(_settings(tiny_folder, method, then, "fp32"), "whole")
    with killed_at(*place) as reporter:
        api.calibrate(_settings(tiny_folder, method, first, "fp32"), "broken", reporter=reporter)
    broken = api.calibrate(_settings(tiny_folder, method, then, "fp32"), "broken")
    assert broken.manifest.image_psnr == pytest.approx(whole.manifest.image_psnr, abs=3)
