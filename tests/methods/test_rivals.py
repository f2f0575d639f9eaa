"""Each method that learns, on the tiny model: nearer than MaxMin, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reporting import Kill, KillAt

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.config import CalibrationSettings

FIT = {"steps": 8, "learning_rate": 0.15}
SHORT = {**FIT, "steps": 2}
RANKS = {"linear": 2, "convolution": 2, "pointwise": 2}
RIVALS: dict[str, dict[str, Any]] = {
    "lsq": {"fit": FIT},
    "efficientdm": {"fit": FIT, "merged_ranks": RANKS},
    "qdm": {"fit": FIT},
}
Run = Callable[..., Any]


@pytest.fixture
def run(tiny_folder: Path) -> Run:
    """Calibrates the tiny model by one of the methods."""

    def calibrate(method: str, name: str, own: dict[str, Any] | None = None, **options: Any) -> Any:
        values = {
            "model": str(tiny_folder),
            "unet": "w4a4",
            "vae": "w4a4",
            "crops": 4,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            "method": method,
            "method_settings": {method: {**RIVALS.get(method, {}), **(own or {})}},
        }
        return api.calibrate(CalibrationSettings.model_validate(values), name, **options)

    return calibrate


def test_all_come_nearer_than_maxmin(run: Run) -> None:
    plain = run("maxmin", "plain").manifest.image_psnr
    for name in RIVALS:
        manifest = run(name, name).manifest
        assert manifest.image_psnr > plain, name
        assert any(stage.end_error < stage.start_error for stage in manifest.stages)
        # Nothing of an adapter is left beside a layer.
        found = find_checkpoint(name)
        assert not [key for key in found.entry.tensors() if "branch" in key]
        assert bool(load_checkpoint(found)(torch.rand(1, 3, 32, 32)).isfinite().all())


@pytest.mark.parametrize(
    ("method", "where", "number", "own"),
    [
        ("lsq", "steps", 1, {"fit": {**SHORT, "optimizer": "sgd"}, "bounds_start": "lsq"}),
        ("efficientdm", "unet", 1, {"fit": SHORT, "bounds_start": "extremes"}),
        ("qdm", "unet: observing", 4, {"fit": SHORT, "bounds_start": "lsq"}),
    ],
)
def test_a_kill_changes_no_integer(
    run: Run,
    method: str,
    where: str,
    number: int,
    own: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter(range(0, 10**9, 60))
    # Save after every step and batch, as a slow machine would.
    monkeypatch.setattr("passionsr_cli.fitting.loop.time.monotonic", lambda: next(moments))
    run(method, "undisturbed", own)
    with pytest.raises(Kill):
        run(method, "stopped", own, reporter=KillAt(where, number))
    run(method, "stopped", own, resume=True)
    one, other = (find_checkpoint(name).entry.tensors() for name in ("undisturbed", "stopped"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
