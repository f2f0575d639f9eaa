from __future__ import annotations

from collections.abc import Callable

import pytest

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.unfinished import unfinished
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError

RANKS = {"linear": 4, "convolution": 4, "pointwise": 4}


def test_branches_and_gptq_come_nearer_than_maxmin(
    calibrated: Callable[..., Checkpoint], goes_on: Callable[..., bool]
) -> None:
    plain = calibrated("plain", "maxmin", unet="w2a8").manifest
    nearest = calibrated("nearest", "svdquant", unet="w2a8", ranks=RANKS, rounding="nearest")
    assert nearest.manifest.image_psnr > plain.image_psnr
    # A kill among the roundings starts them over.
    assert goes_on("svdquant", "unet: rounding", 5, unet="w2a8", ranks=RANKS)
    entry = find_checkpoint("undisturbed")
    assert entry.manifest.image_psnr > nearest.manifest.image_psnr
    assert [stage.steps for stage in entry.manifest.stages] == [0]
    branches = {key: x for key, x in entry.entry.tensors().items() if "branch" in key}
    assert branches
    assert all(tensor.equal(tensor.bfloat16()) for tensor in branches.values())
    assert all(4 in tensor.shape[:2] for tensor in branches.values())


def test_the_papers_rank_is_too_large_for_tiny_layers(
    settings_of: Callable[..., CalibrationSettings],
) -> None:
    """Which is said before anything is begun."""
    with pytest.raises(ConfigError, match=r"rank 32 is too large for unet\.\S+, whose weight"):
        api.calibrate(settings_of("svdquant"), "mine")
    assert unfinished() == []
