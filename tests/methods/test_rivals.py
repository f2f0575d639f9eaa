"""Each method that learns, on the tiny model: nearer than MaxMin, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from calibrating import Finished, same_tensors
from reporting import killed_at

from passionsr_cli import api
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
Settings = Callable[..., CalibrationSettings]


@pytest.fixture
def chosen(settings_of: Settings) -> Settings:
    """Settings of one of the methods for all of the tiny model."""

    def give(method: str, **own: Any) -> CalibrationSettings:
        return settings_of(method, vae="w4a4", **{**RIVALS.get(method, {}), **own})

    return give


def test_all_come_nearer_than_maxmin(chosen: Settings, finished: Finished) -> None:
    plain = finished(chosen("maxmin"), "plain").manifest.image_psnr
    for name in RIVALS:
        found = finished(chosen(name), name)
        manifest = found.manifest
        assert manifest.image_psnr > plain, name
        assert any(stage.end_error < stage.start_error for stage in manifest.stages)
        # Nothing of an adapter is left beside a layer.
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
    chosen: Settings,
    finished: Finished,
    method: str,
    where: str,
    number: int,
    own: dict[str, Any],
) -> None:
    settings = chosen(method, **own)
    with killed_at(where, number) as reporter:
        api.calibrate(settings, "stopped", reporter=reporter)
    stopped = api.calibrate(settings, "stopped")
    assert same_tensors(stopped, finished(settings, "undisturbed"))
