"""Starting bounds of a quantizer from the values they are to hold."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from passionsr_cli.quantization.observers import Bounds
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import BoundsStart, Scheme

# What the search tries: so much of a bound is left.
SHARES = tuple(1 - number / 20 for number in range(20))
# A sample tells where grids of so many bits should end; finer ones have room for the extremes.
MOST_BITS_OF_SAMPLES = 6
# Of small tensors all shares are tried in one call, of large ones as many as stay in the cache.
VALUES_AT_ONCE = 2**16


@torch.no_grad()
def start_between(
    quantizer: Quantizer, values: Tensor, extremes: Bounds, start: BoundsStart
) -> Bounds:
    """Start a quantizer on `values`, (n,) or (channels, n), that reach from extreme to extreme.

    `lsq` takes the step from their mean magnitude, `mse` the bounds that round them best.
    Returns the bounds it starts from.
    """
    if start == "mse":
        _search(quantizer, values, extremes)
    elif start == "lsq":
        quantizer.start(*lsq_bounds(values, extremes[0] < 0, quantizer.scheme))
    else:
        quantizer.start(*extremes)
    return quantizer.bounds()


def start_from_sample(
    quantizer: Quantizer, sample: Tensor, extremes: Bounds, start: BoundsStart
) -> Bounds:
    """`start_between`, where `sample` is a part of the values.

    It lacks most of the few largest ones. What clipping these costs a fine grid it cannot tell,
    and a search among them would clip too much: above 6 bits `mse` starts at the extremes.
    """
    fine = quantizer.scheme.num_bits > MOST_BITS_OF_SAMPLES
    return start_between(
        quantizer, sample, extremes, "extremes" if fine and start == "mse" else start
    )


def lsq_bounds(values: Tensor, signed: Tensor, scheme: Scheme) -> Bounds:
    """The bounds of steps of 2·mean|v| / √q_max (LSQ, arXiv 1902.08153, section 2.1).

    q_max is the largest integer above zero: the signed ones where values are `signed`.
    """
    magnitude = values.abs().mean(-1)
    sides = []
    for below, above in (scheme.signed_limits(True), scheme.signed_limits(False)):
        step = 2 * magnitude / above**0.5
        sides.append((-below * step, above * step))
    (lower, upper), (lower_unsigned, upper_unsigned) = sides
    return (
        torch.where(signed, lower, lower_unsigned),
        torch.where(signed, upper, upper_unsigned),
    )


def _search(quantizer: Quantizer, values: Tensor, extremes: Bounds) -> None:
    """Shrink both bounds together, then each alone, to where the squared error is least."""
    lower, upper = extremes
    shares = torch.tensor(SHARES, device=upper.device).reshape(-1, *[1] * upper.dim())
    alone = [] if quantizer.lower is None else [(True, False), (False, True)]
    for moves_lower, moves_upper in [(True, True), *alone]:
        tried_lower = lower * (shares if moves_lower else torch.ones_like(shares))
        tried_upper = upper * (shares if moves_upper else torch.ones_like(shares))
        best = _errors(quantizer.scheme, values, tried_lower, tried_upper).argmin(0, keepdim=True)
        lower = tried_lower.gather(0, best).squeeze(0)
        upper = tried_upper.gather(0, best).squeeze(0)
    quantizer.start(lower, upper)


def _errors(scheme: Scheme, values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Mean squared errors of rounding `values` between each of several bounds, shaped like these:
    (tried,) or (tried, channels)."""
    rows = values.reshape(1, *lower.shape[1:], -1)
    each = replace(scheme, channel_axis=0)
    at_once = max(1, VALUES_AT_ONCE // values.numel())
    found = []
    for first in range(0, len(lower), at_once):
        some = slice(first, first + at_once)
        # The channels of every trial are channels of one quantizer.
        count = len(lower[some])
        repeated = rows.expand(count, *rows.shape[1:]).reshape(-1, rows.shape[-1])
        trial = Quantizer(each, len(repeated)).to(values.device)
        trial.start(lower[some].flatten(), upper[some].flatten())
        error = (trial(repeated) - repeated).square().mean(-1)
        found.append(error.reshape(count, *lower.shape[1:]))
    return torch.cat(found)
