"""Launches of attention's kernels on tensors of codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from passionsr_cli.triton_kernels.attention_kernels import attention_kernel, softmax_sums_kernel
from passionsr_cli.triton_kernels.kernels import CHANNEL_MULTIPLE, FUSED
from passionsr_cli.triton_kernels.launching import InputGrid, limits_of_steps
from passionsr_cli.triton_kernels.tuning import ATTENTIONS, Blocks, launch_fastest


@dataclass(frozen=True)
class Operands:
    """Codes of an attention: queries (B·N, ≥ C), keys (B·M, ≥ C), and transposed the values
    (C, B·M), with the channels of its heads behind one another."""

    query: Tensor
    key: Tensor
    value: Tensor
    batch: int
    heads: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(N, M, channels of a head)."""
        tokens, keys = len(self.query) // self.batch, len(self.key) // self.batch
        return tokens, keys, len(self.value) // self.heads

    @property
    def case(self) -> tuple[int, ...]:
        """Of operands of one case the same blocks are the fastest."""
        tokens, keys, width = self.sizes
        return width, (self.batch * self.heads * tokens).bit_length(), keys.bit_length()


@dataclass(frozen=True)
class Steps:
    """Numbers that codes of an attention are multiplied by.

    `logit` makes a logit in base 2 of a sum of q·k, `share` a softmax's code (before rounding) of
    a softmax, `result` what both products come to of a sum of p·v. `share_limits` are the zero
    point, the smallest and the largest code of a softmax, `value_zero` is the zero point of values.
    """

    logit: float
    share: float
    result: float
    share_limits: tuple[int, int, int]
    value_zero: int


def attend(operands: Operands, steps: Steps, grid: InputGrid | None = None) -> Tensor:
    """softmax(q kᵀ) v of codes (B·N, C), float32; with a grid as codes (B·N, C') on it, filled up
    as those of `quantize` are."""
    device, channels = operands.query.device, len(operands.value)
    tokens = operands.sizes[0]
    if grid is None:
        result = torch.empty((len(operands.query), channels), device=device)
    else:
        filling = -channels % CHANNEL_MULTIPLE
        shape = (len(operands.query), channels + filling)
        result = torch.empty(shape, dtype=torch.int8, device=device)
        if filling:
            result[:, channels:] = grid.zero_point
    sums = torch.empty((operands.batch, operands.heads, tokens), device=device)
    _launch_sums(operands, steps, sums)
    _launch_products(operands, steps, sums, grid, result)
    return result


def _block_depth(width: int) -> int:
    """All channels of a head in one product, whose kernels need so many."""
    depth: int = max(CHANNEL_MULTIPLE, triton.next_power_of_2(width))
    return depth


def _launch_sums(operands: Operands, steps: Steps, sums: Tensor) -> None:
    tokens, keys, width = operands.sizes

    def launch(blocks: Blocks) -> None:
        programs = (triton.cdiv(tokens, blocks.rows), operands.heads, operands.batch)
        softmax_sums_kernel[programs](
            operands.query,
            operands.key,
            sums,
            tokens,
            keys,
            operands.query.stride(0),
            operands.key.stride(0),
            width,
            steps.logit,
            block_rows=blocks.rows,
            block_keys=blocks.depth,
            block_depth=_block_depth(width),
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **FUSED,
        )

    launch_fastest("softmax_sums", operands.case, ATTENTIONS, sums.device, launch)


def _launch_products(
    operands: Operands, steps: Steps, sums: Tensor, grid: InputGrid | None, result: Tensor
) -> None:
    tokens, keys, width = operands.sizes
    value = operands.value

    def launch(blocks: Blocks) -> None:
        block_values = min(blocks.columns, _block_depth(width))
        slices = triton.cdiv(width, block_values)
        programs = (triton.cdiv(tokens, blocks.rows), operands.heads * slices, operands.batch)
        attention_kernel[programs](
            operands.query,
            operands.key,
            value,
            sums,
            sums if grid is None else grid.factor,
            sums if grid is None else grid.offset,
            result,
            tokens,
            keys,
            operands.query.stride(0),
            operands.key.stride(0),
            value.stride(0),
            result.stride(0),
            width,
            steps.logit,
            steps.share,
            *limits_of_steps(*steps.share_limits),
            steps.share_limits[0],
            steps.value_zero,
            steps.result,
            *((0.0, 0.0, 0.0) if grid is None else grid.limits),
            rounds=grid is not None,
            block_rows=blocks.rows,
            block_keys=blocks.depth,
            block_depth=_block_depth(width),
            block_values=block_values,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **FUSED,
        )

    case = (*operands.case, grid is not None)
    launch_fastest("attention", case, ATTENTIONS, result.device, launch)
