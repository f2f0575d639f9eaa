from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from passionsr_cli.calibration import checkpoints, runs
from passionsr_cli.errors import ConfigError
from passionsr_cli.store import Entry

RANKS = {"linear": 4, "convolution": 4, "pointwise": 4}


def test_branches_and_gptq_come_nearer_than_maxmin(calibrated: Callable[..., Entry]) -> None:
    def psnr(name: str, method: str = "svdquant", **settings: object) -> float:
        return float(calibrated(name, method, **settings).manifest["image_psnr"])

    nearest = psnr("nearest", rounding="nearest", ranks=RANKS)
    assert nearest > psnr("plain", "maxmin")
    assert nearest > psnr("bare", rounding="nearest", ranks={})
    assert psnr("gptq", rounding="gptq", ranks=RANKS) > nearest


def test_nothing_is_learned_and_branches_are_kept(calibrated: Callable[..., Entry]) -> None:
    entry = calibrated("mine", "svdquant", ranks={"linear": 3})
    assert [stage["steps"] for stage in entry.manifest["stages"]] == [0, 0, 0]
    tensors = checkpoints.find("mine").tensors()
    branches = {name: tensor for name, tensor in tensors.items() if "branch" in name}
    assert branches
    assert {tensor.dtype for tensor in branches.values()} == {torch.bfloat16}
    assert all(3 in tensor.shape for tensor in branches.values())
    assert not [name for name in branches if "conv" in name]


def test_it_goes_on_where_it_stopped(goes_on: Callable[..., bool]) -> None:
    assert goes_on("svdquant", "unet: rounding", 5, ranks={"linear": 4})


def test_the_papers_rank_is_too_large_for_tiny_layers(calibrated: Callable[..., Entry]) -> None:
    """Which is said before anything is begun."""
    with pytest.raises(ConfigError, match=r"rank 32 is too large for vae\.\S+, whose weight"):
        calibrated("mine", "svdquant")
    assert runs.unfinished() == []
