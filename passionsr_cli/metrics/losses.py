"""Metrics as losses: differentiable, from weights that are on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from passionsr_cli.metrics.catalogue import LUMA, metrics_of
from passionsr_cli.metrics.scoring import built
from passionsr_cli.metrics.weights import WeightsFinder


def lpips(device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (AlexNet) of images (B, 3, H, W) in [0, 1] and their targets, through pyiqa.

    Raises `MetricError` if its weights are not on this machine; nothing is downloaded.
    """
    (metric,) = metrics_of("osediff", ["lpips"])
    files = WeightsFinder(downloads=False).find(metric)
    as_loss = replace(metric, options={**metric.options, "as_loss": True})
    network = built(as_loss, files, torch.device(device))
    return cast("Callable[[Tensor, Tensor], Tensor]", network)


def ssim_loss(image: Tensor, reference: Tensor) -> Tensor:
    """1 − SSIM (Wang et al. 2004) of the luma of images (B, 3, H, W) in [0, 1], averaged over the
    images, through pyiqa: what the metric scores, in single precision."""
    from pyiqa.archs.ssim_arch import preprocess_rgb, ssim

    luma = (preprocess_rgb(x.float(), data_range=1, **LUMA) for x in (image, reference))
    return 1 - cast("Tensor", ssim(*luma, data_range=1)).mean()
