"""What the embedded model does to photographs, as `upscale` runs it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from passionsr_cli import Upscaler
from passionsr_cli.imaging import samples


def _as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def _with_noise(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 10, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("degraded", "gain_db"), [(_as_jpeg, 0.6), (_with_noise, 1.0)])
def test_compressed_and_noisy_photographs_are_restored(
    degraded: Callable[[Image.Image], Image.Image], gain_db: float
) -> None:
    """RGB PSNR over Pillow's bicubic enlargement."""
    gains = []
    with Upscaler(realism=0) as upscaler:
        for name in ("brick", "coffee"):
            source = f"{samples.PREFIX}{name}"
            small, photograph = (
                (make(source).transpose(1, 2, 0) * 255).round().astype(np.uint8)
                for make in (samples.low_resolution, samples.high_resolution)
            )
            given = degraded(Image.fromarray(small))
            size = (photograph.shape[1], photograph.shape[0])
            bicubic, restored = (
                peak_signal_noise_ratio(photograph, np.asarray(image))
                for image in (given.resize(size, Image.Resampling.BICUBIC), upscaler.upscale(given))
            )
            gains.append(restored - bicubic)
    assert min(gains) > 0
    assert sum(gains) / len(gains) >= gain_db
