"""What bits by budget gain over uniform ones at the same bytes, against the bars.

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat \
        pytest -s tests/quality/test_budget.py

The embedded model is calibrated on a few small crops, with the steps of the presets. PSNR is to
what full precision makes of every tenth of the images.
"""

from __future__ import annotations

import pytest

from passionsr_cli import api
from passionsr_cli.allocation import mixed_precision
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.catalogue import Checkpoint

from .measuring import MODEL, needs_data, photographs, psnr, read, upscaled, upscaler

FEW = {"model": MODEL, "crops": 8, "crop_px": 192, "device": "cpu", "precision": "fp32"}
EVERY = 10


def _to_full_precision(checkpoint: Checkpoint) -> float:
    """dB to full precision's results."""
    images = [read(file) for file in photographs(EVERY)]
    made, full = (
        [upscaled(tiled, lr) for lr in images]
        for tiled in (
            upscaler(checkpoint=str(checkpoint.folder), backend="torch"),
            upscaler(checkpoint="none", backend="torch"),
        )
    )
    return psnr(made, full)


@needs_data
@pytest.mark.parametrize(("bits", "bar"), [("w4a4", 2.0), ("w6a6", 1.0)])
def test_a_budget_is_nearer_than_uniform_bits_at_their_bytes(bits: str, bar: float) -> None:
    uniform = api.calibrate(settings_for(bits, None, FEW), f"uniform-{bits}")
    size = uniform.entry.tensors_file.bytes
    budget = f"{size / 1000}kB"
    mixed = api.calibrate(settings_for(None, None, {**FEW, "budget": budget}), f"mixed-{bits}")
    assert mixed.entry.tensors_file.bytes <= size
    found = {name: _to_full_precision(each) for name, each in (("u", uniform), ("m", mixed))}
    print(f"\n{bits}: {size / 1e6:.3f} MB, uniform {found['u']:.2f} dB, by budget {found['m']:.2f}")
    assert found["m"] >= found["u"] + bar


@needs_data
@pytest.mark.parametrize("method", ["svdquant", "qartsr"])
def test_ranks_by_budget_are_as_near_as_those_of_the_method_at_equal_bytes(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniform = api.calibrate(settings_for("w4a4", None, {**FEW, "method": method}), f"u-{method}")
    size = uniform.entry.tensors_file.bytes
    values = {**FEW, "method": method, "budget": f"{size / 1000}kB"}
    chosen = api.calibrate(settings_for(None, None, values), f"chosen-{method}")
    monkeypatch.setattr(mixed_precision, "RANK_SHARES", (1,))
    fixed = api.calibrate(settings_for(None, None, values), f"fixed-{method}")
    found = [_to_full_precision(each) for each in (uniform, fixed, chosen)]
    print(
        f"\n{method}: {size / 1e6:.3f} MB, uniform {found[0]:.2f} dB, bits by budget "
        f"{found[1]:.2f}, ranks too {found[2]:.2f}"
    )
    assert found[2] >= found[1] - 0.2
