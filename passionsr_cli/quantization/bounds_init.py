"""Starting bounds of a quantizer from the values they are to hold."""

from __future__ import annotations

import torch
from torch import Tensor

from passionsr_cli.quantization.observers import Bounds
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import BoundsStart, Scheme

# What the search tries: so much of a bound is left.
SHARES = tuple(1 - number / 20 for number in range(20))
# A sample tells where grids of so many bits should end; finer ones have room for the extremes.
MOST_BITS_OF_SAMPLES = 6


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
    best = torch.full_like(upper, torch.inf)
    alone = [] if quantizer.lower is None else [(True, False), (False, True)]
    for moves_lower, moves_upper in [(True, True), *alone]:
        from_lower, from_upper = lower, upper
        for share in SHARES:
            tried_lower = from_lower * share if moves_lower else from_lower
            tried_upper = from_upper * share if moves_upper else from_upper
            quantizer.start(tried_lower, tried_upper)
            error = (quantizer(values) - values).square().mean(-1)
            better = error < best
            best = torch.where(better, error, best)
            lower = torch.where(better, tried_lower, lower)
            upper = torch.where(better, tried_upper, upper)
    quantizer.start(lower, upper)
