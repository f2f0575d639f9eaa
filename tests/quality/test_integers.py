"""How near integer execution comes to the definition, and how fast it is.

    PASSIONSR_REALSR=DIR PASSIONSR_INTEGER_CHECKPOINTS=FOLDER,FOLDER \
        pytest -s tests/quality/test_integers.py

Upscales five photographs with each checkpoint (folders), by torch, which defines the
result, and by OpenVINO. Where a value lies midway between two integers, the last bit of a float
decides, and each flipped code moves values of the next layer across such middles: so the
definition's distance to itself, with its input multiplied by 1 + 1e-6, is measured beside.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from integers import on_integers_as_far_as_exact
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.upscaling.images import open_upscaler

DATA = os.environ.get("PASSIONSR_REALSR")
CHECKPOINTS = [
    name for name in os.environ.get("PASSIONSR_INTEGER_CHECKPOINTS", "").split(",") if name
]
pytestmark = pytest.mark.skipif(not DATA, reason="PASSIONSR_REALSR is not set")
IMAGES = 5
# The error of a float32 sum of some hundred products is about as large.
NUDGE = 1 + 1e-6

Images = list[torch.Tensor]


def _read(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _psnr(some: Images, others: Images) -> float:
    """Of all pixels of all images together: some images may agree to the last bit."""
    errors = [(one - other).square().mean() for one, other in zip(some, others, strict=True)]
    return -10 * float(torch.stack(errors).mean().clamp_min(1e-20).log10())


def _upscale(
    files: list[Path], checkpoint: str | None, backend: str, precision: str, factor: float = 1.0
) -> tuple[Images, float]:
    """Results without colour fix, and the median seconds of an image."""
    upscaler = open_upscaler(
        UpscaleSettings.model_validate(
            {
                "checkpoint": checkpoint,
                "backend": backend,
                "precision": precision,
                "color_fix": "none",
                "device": "cpu",
            }
        )
    )
    upscaler.upscale(_read(files[0]).numpy())
    results, seconds = [], []
    for file in files:
        image = _read(file) * factor
        started = time.perf_counter()
        results.append(torch.from_numpy(upscaler.upscale(image.numpy()).rgb))
        seconds.append(time.perf_counter() - started)
    if checkpoint is not None and backend == "openvino":
        ran = upscaler.executor.kernels()
        assert on_integers_as_far_as_exact(ran), ran.floating
    return results, sorted(seconds)[len(seconds) // 2]


@cache
def _full_precision() -> tuple[list[Path], Images]:
    files = sorted(Path(str(DATA)).glob("test_LR/*.png"))
    files = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    return files, _upscale(files, None, "torch", "fp32")[0]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_integers_compute_the_definition(checkpoint: str) -> None:
    files, full = _full_precision()
    photographs = [_read(Path(str(DATA)) / "test_HR" / file.name) for file in files]
    definition, torch_seconds = _upscale(files, checkpoint, "torch", "fp32")
    nudged, _ = _upscale(files, checkpoint, "torch", "fp32", NUDGE)
    to_itself = _psnr(nudged, definition)
    print(f"\n{Path(checkpoint).name}: {_psnr(full, definition):.2f} dB to full precision; ")
    print(f"  the definition, nudged: {to_itself:.2f} dB; {torch_seconds:.3f} s an image")
    for precision in ("fp32", "bf16"):
        found, seconds = _upscale(files, checkpoint, "openvino", precision)
        to_definition = _psnr(found, definition)
        change = _psnr(found, photographs) - _psnr(definition, photographs)
        print(
            f"  openvino {precision}: {to_definition:.2f} dB, {change:+.3f} dB to the "
            f"photographs; {seconds:.3f} s an image"
        )
        if precision == "fp32":
            assert to_definition > min(55.0, to_itself - 3)
            assert abs(change) < 0.02
        else:
            assert to_definition > min(55.0, _psnr(full, definition))


def test_the_model_itself() -> None:
    files = sorted(Path(str(DATA)).glob("test_LR/*.png"))[:IMAGES]
    definition, _ = _upscale(files, None, "torch", "fp32")
    for backend in ("torch", "openvino"):
        for precision in ("fp32", "bf16"):
            found, seconds = _upscale(files, None, backend, precision)
            print(
                f"full precision, {backend} {precision}: {_psnr(found, definition):.2f} dB; "
                f"{seconds:.3f} s an image"
            )
            assert _psnr(found, definition) > 40
