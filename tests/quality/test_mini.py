"""The embedded model's scores, robustness, flat colours and speed, against the bars.

Needs the 100 StableSR crops of the RealSR test set (`test_LR`, `test_HR`), pyiqa's NIQE parameters
and, for the comparison of speed, Real-ESRGAN's weights (see `rivals.py`), none of which can be part
of this repository; and `pip install '.[metrics]'`:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat \\
        PASSIONSR_REALESRGAN=realesrgan-x4plus.bin pytest -s tests/quality/test_mini.py

Protocol: RGB PNGs without colour fix, PSNR and SSIM on Y, no border crop. `taskset -c 0,1` in front
measures speed on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from integers import on_integers_as_far_as_exact
from torch import Tensor

from passionsr_cli import api
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.imaging import samples
from passionsr_cli.system.devices import choose_precision

from .measuring import (
    DEGRADATIONS,
    MODEL,
    RIVAL,
    Scores,
    dial,
    enlarged,
    needs_data,
    needs_rival,
    photographs,
    psnr,
    read,
    row_at,
    upscaled,
    upscaler,
)
from .rivals import compile_real_esrgan

pytestmark = needs_data

SIDES = (samples.low_resolution, samples.high_resolution)
# At least, or at most, by setting of the dial; None stands for the default.
AT_LEAST = {
    0.0: {"psnr": 27.75, "ssim": 0.80},
    None: {"psnr": 26.4},
    1.0: {"psnr": 25.73},
}
AT_MOST = {
    0.0: {},
    None: {"niqe": 6.3, "lite1": 0.665},
    1.0: {"niqe": 5.8, "lite1": 0.648},
}
COLOURS = {"black": (0, 0, 0), "white": (255,) * 3, "grey": (128,) * 3, "red": (255, 0, 0)}
# A line of so little contrast is invisible, however much of the image it fills.
FAINTEST_LINE = 0.05
TILE_PX, OVERLAP_PX = 256, 64
PERIOD_PX = TILE_PX - OVERLAP_PX


def test_the_protocol_is_that_of_known_numbers(scores: Scores) -> None:
    known = {"psnr": 27.113, "ssim": 0.7555, "niqe": 8.994}
    assert {key: scores["bicubic"][key] for key in known} == pytest.approx(known, abs=5e-4)
    assert scores["bicubic"]["lite1"] == pytest.approx(0.7187, abs=1e-3)


@pytest.mark.parametrize("wanted", [0.0, None, 1.0], ids=["faithful", "default", "natural"])
def test_scores(scores: Scores, wanted: float | None) -> None:
    positions = dial()
    if wanted not in (None, *positions):
        pytest.skip("the model has no dial")
    realism = positions[len(positions) // 2] if wanted is None else wanted
    found = scores[row_at(realism)]
    for key, bar in AT_LEAST[wanted].items():
        assert found[key] >= bar, key
    for key, bar in AT_MOST[wanted].items():
        assert found[key] <= bar, key


@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_degraded_images_are_restored(degradation: str) -> None:
    """RGB PSNR at realism 0 over bicubic's, mean of the eight sample photographs."""
    faithful = upscaler(dial()[0])
    gains = []
    for name in samples.NAMES:
        source = f"{samples.PREFIX}{name}"
        reference = torch.from_numpy(samples.high_resolution(source))
        lr = DEGRADATIONS[degradation](torch.from_numpy(samples.low_resolution(source)))
        plain = psnr([enlarged(lr)], [reference])
        gains.append(psnr([upscaled(faithful, lr)], [reference]) - plain)
        print(f"\n{degradation}, {name}: {plain:.2f} dB bicubic, {gains[-1]:+.2f} dB", end="")
    mean = sum(gains) / len(gains)
    print(f"\n{degradation}: {mean:+.3f} dB")
    assert mean >= 0.8


def _flat(colour: str, side: int) -> Tensor:
    return torch.tensor(COLOURS[colour]).view(3, 1, 1).expand(3, side, side) / 255


@pytest.mark.parametrize("colour", COLOURS)
def test_one_colour_comes_back(colour: str) -> None:
    errors = []
    for realism in dial():
        image = upscaled(upscaler(realism), _flat(colour, 128)) * 255
        error = (image - _flat(colour, 512) * 255).abs()
        errors.append(float(error.max()))
        print(f"\n{colour} at {realism}: up to {errors[-1]:.3f} level, mean {error.mean():.3f}")
    assert max(errors) <= 0.5


def test_grey_shows_neither_fold_nor_tiles() -> None:
    lines = [found for realism in dial() for found in _lines_in_grey(realism)]
    assert not [period for period, line, around in lines if line > max(FAINTEST_LINE, 3 * around)]


def _lines_in_grey(realism: float | None) -> Iterator[tuple[int, float, float]]:
    """Period, highest amplitude at its harmonics, and that of the spectrum around it, in levels."""
    tiled = upscaler(realism, tile=TILE_PX, overlap=OVERLAP_PX)
    side = TILE_PX + 3 * PERIOD_PX
    image = upscaled(tiled, _flat("grey", side // 4)).mean(0) * 255
    # Three periods of the tiles, as far from the border as that allows.
    length, start = 3 * PERIOD_PX, TILE_PX // 2
    inner = image[start : start + length, start : start + length].double()
    amplitudes = torch.fft.fft2(inner - inner.mean()).abs() * 2 / length**2
    for period in (4, 8, PERIOD_PX):
        step = length // period
        # Harmonics of the tiles' distance that are the fold's are counted there.
        last = step * 8 if period == PERIOD_PX else length
        line = float(amplitudes[:last:step, :last:step].max())
        around = float(amplitudes[step - 1 : step + 2, :3].median())
        print(f"\ngrey at {realism}, {period} px: {line:.4f} level, around it {around:.4f}", end="")
        yield period, line, around


@pytest.mark.parametrize("realism", dial())
def test_texture_shows_no_fold(realism: float | None) -> None:
    """What repeats with every pixel of the input cannot come from it: no more of it in images than
    in photographs, mean of the eight samples."""
    tiled, found, wanted = upscaler(realism), 0.0, 0.0
    for name in samples.NAMES:
        source = f"{samples.PREFIX}{name}"
        lr, hr = (torch.from_numpy(each(source)) for each in SIDES)
        found += _repeated(upscaled(tiled, lr)) / len(samples.NAMES)
        wanted += _repeated(hr) / len(samples.NAMES)
    print(f"\nfold at {realism}: {found:.2f} levels, photographs {wanted:.2f}", end="")
    assert found <= 1.5 * wanted


def _repeated(image: Tensor) -> float:
    """Highest amplitude, in levels, of what repeats every 4 pixels in an image (3, H, W)."""
    height, width = (side // 4 * 4 for side in image.shape[1:])
    grey = image[:, :height, :width].mean(0).double() * 255
    # Of all else little reaches these frequencies through the window.
    window = torch.outer(torch.hann_window(height).double(), torch.hann_window(width).double())
    amplitudes = torch.fft.fft2((grey - grey.mean()) * window).abs() * 2 / window.sum()
    lines = amplitudes[:: height // 4, :: width // 4].clone()
    lines[0, 0] = 0
    return float(lines.max())


@needs_rival
def test_speed_beside_real_esrgan() -> None:
    """128×128 to 512×512 at W8A8, both by OpenVINO, in turns."""
    settings = {"model": MODEL, "unet": "w8a8", "vae": "w8a8", "method": "maxmin", "crops": 4}
    api.calibrate(CalibrationSettings.model_validate(settings), "speed")
    precision = choose_precision("auto", "cpu")
    ours = upscaler(checkpoint="speed", model=None, backend="openvino", precision=precision)
    hint = {"fp32": "f32"}.get(precision, precision)
    rival = compile_real_esrgan(Path(str(RIVAL)), hint)
    lr = read(photographs()[0])
    seconds: dict[str, list[float]] = {"ours": [], "rival": []}
    for number in range(6):
        for name, upscale in (("ours", partial(upscaled, ours)), ("rival", rival)):
            started = time.perf_counter()
            upscale(lr)
            # The first run also compiles.
            if number:
                seconds[name].append(time.perf_counter() - started)
    assert on_integers_as_far_as_exact(ours.executor.kernels())
    own, other = (sorted(values)[len(values) // 2] for values in seconds.values())
    print(f"\nW8A8 {own:.3f} s, Real-ESRGAN in {hint} {other:.3f} s: {other / own:.1f} times")
    assert other / own >= 6
