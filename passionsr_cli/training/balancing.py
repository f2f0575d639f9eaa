"""Losses of different kinds on one image, each with a share of the gradient instead of a weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SMALLEST_NORM = 1e-12


def balanced(losses: Mapping[str, Tensor], shares: Mapping[str, float], image: Tensor) -> Tensor:
    """One loss whose gradient by `image` is that of all, each scaled to its share.

    Weights of losses say little: the gradient of a distance of features is 2,000 times that of L1,
    and as good as noise from batch to batch; under it critics of any common weight go unheard. As
    in EnCodec's balancer (arXiv 2210.13438, 3.4), but by the norms of this batch alone, each
    gradient gets the norm `share` · |∂L1/∂image|. The value is the sum of shares times losses.
    """
    # Of a mean of absolute values, wherever it is not zero.
    unit = image.numel() ** -0.5
    total = torch.zeros_like(image)
    value = image.new_zeros(())
    for name, loss in losses.items():
        if shares[name] == 0:
            continue
        (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)
        total += gradient * (shares[name] * unit / gradient.norm().clamp_min(SMALLEST_NORM))
        value = value + shares[name] * loss.detach()
    carried = (image * total).sum()
    return value + carried - carried.detach()
