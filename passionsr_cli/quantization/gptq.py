"""GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): rounding with the inputs in mind."""

from __future__ import annotations

import torch
from torch import Tensor

from passionsr_cli.quantization.affine import Grid, dequantize, quantize

# What is added to the second moments' diagonal, of its mean (section 3.3, step 3), and how many
# columns are rounded before what they left over reaches the ones behind them (step 2).
DAMPING = 0.01
BLOCK = 128
# Columns whose second moments are held at a time: 170 MB in float64. Layers with more are
# rounded in groups of so many, each for itself.
MOST_COLUMNS = 4608


@torch.no_grad()
def gptq(weight: Tensor, grid: Grid, rows: Tensor) -> Tensor:
    """Integers (O, K), int16, of a weight (O, K) that is multiplied by inputs like `rows` (n, K).

    Columns are rounded one after the other, those of the largest inputs first; the error of each
    is made up for by those not yet rounded, so that ‖X (W − Ŵ)ᵀ‖² is small, not ‖W − Ŵ‖².
    """
    groups = range(0, weight.shape[1], MOST_COLUMNS)
    parts = [slice(start, start + MOST_COLUMNS) for start in groups]
    return torch.cat([_rounded(weight[:, part], grid, rows[:, part]) for part in parts], dim=1)


def _rounded(weight: Tensor, grid: Grid, rows: Tensor) -> Tensor:
    moments = rows.t() @ rows
    order = moments.diagonal().argsort(descending=True, stable=True)
    spread = _spread(moments.double()[order][:, order]).to(weight.dtype)
    left = weight[:, order].clone()
    integers = torch.empty_like(left, dtype=torch.int16)
    count = left.shape[1]
    for start in range(0, count, BLOCK):
        block = range(start, min(start + BLOCK, count))
        errors = left.new_empty(left.shape[0], len(block))
        for place, column in enumerate(block):
            integers[:, column : column + 1] = quantize(left[:, column : column + 1], grid)
            error = left[:, column] - _real(integers[:, column : column + 1], grid)
            errors[:, place] = error / spread[column, column]
            inside = slice(column, block.stop)
            left[:, inside] -= torch.outer(errors[:, place], spread[column, inside])
        left[:, block.stop :] -= errors @ spread[start : block.stop, block.stop :]
    return integers[:, order.argsort()]


def _real(integers: Tensor, grid: Grid) -> Tensor:
    return dequantize(integers, grid)[:, 0]


def _spread(moments: Tensor) -> Tensor:
    """Spread of a column's error over those behind it: the upper Cholesky factor of the
    damped moments' inverse (step 3), whose rows they are."""
    diagonal = moments.diagonal()
    # An input that is always zero has no say.
    diagonal[diagonal == 0] = 1
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
