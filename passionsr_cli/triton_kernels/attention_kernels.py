"""Triton kernels of attention: both of its products on codes, and the softmax between them.

No matrix of all queries by all keys is ever in memory. A softmax that is rounded to a grid of its
own needs its sum before the first code, so that the first product is computed twice: once for the
sums, once for the codes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from passionsr_cli.triton_kernels.kernels import code_of


@triton.jit
def block_of_logits(
    queries: tl.tensor,
    key: tl.tensor,
    key_row: tl.tensor,
    keys: tl.tensor,
    key_stride: tl.tensor,
    depth: tl.tensor,
    width: tl.tensor,
    logit_factor: tl.tensor,
) -> tl.tensor:
    """Logits in base 2 of a block of codes of queries with the keys `key_row`, float32.

    They are −∞ beyond the last of the `keys`. `key` points at the first key's codes of one head.
    """
    known = (key_row < keys)[:, None] & (depth < width)[None, :]
    places = key_row.to(tl.int64)[:, None] * key_stride + depth[None, :]
    codes = tl.load(key + places, mask=known, other=0)
    products = tl.dot(queries, tl.trans(codes), out_dtype=tl.int32)
    return tl.where(
        (key_row < keys)[None, :], products.to(tl.float32) * logit_factor, float("-inf")
    )


@triton.jit
def softmax_sums_kernel(
    query: tl.tensor,
    key: tl.tensor,
    sums: tl.tensor,
    tokens: tl.tensor,
    keys: tl.tensor,
    query_stride: tl.tensor,
    key_stride: tl.tensor,
    width: tl.tensor,
    logit_factor: tl.tensor,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
    block_depth: tl.constexpr,
) -> None:
    """Logarithms in base 2 of the sums of exponentials of every query's logits.

    `query` and `key` are codes int8, rows (B·tokens) and (B·keys) of so many bytes' stride, in
    which a head's `width` channels are next to each other. A logit is q·k · `logit_factor` in base
    2. `sums` (B, heads, tokens) float32. The grid is (blocks of tokens, heads, B).
    """
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    head, image = tl.program_id(1), tl.program_id(2)
    depth = tl.arange(0, block_depth)
    source = (image * tokens + row).to(tl.int64)[:, None] * query_stride + head * width
    asked = (row < tokens)[:, None] & (depth < width)[None, :]
    queries = tl.load(query + source + depth[None, :], mask=asked, other=0)
    first_key = key + (image * keys).to(tl.int64) * key_stride + head * width
    largest = tl.full((block_rows,), float("-inf"), tl.float32)
    total = tl.zeros((block_rows,), tl.float32)
    for start in range(0, keys, block_keys):
        key_row = start + tl.arange(0, block_keys)
        logits = block_of_logits(
            queries, first_key, key_row, keys, key_stride, depth, width, logit_factor
        )
        new = tl.maximum(largest, tl.max(logits, 1))
        total = total * tl.exp2(largest - new) + tl.sum(tl.exp2(logits - new[:, None]), 1)
        largest = new
    target = (image * tl.num_programs(1) + head) * tokens + row
    tl.store(sums + target, largest + tl.log2(total), mask=row < tokens)


@triton.jit
def attention_kernel(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    sums: tl.tensor,
    factor_out: tl.tensor,
    offset_out: tl.tensor,
    result: tl.tensor,
    tokens: tl.tensor,
    keys: tl.tensor,
    query_stride: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    result_stride: tl.tensor,
    width: tl.tensor,
    logit_factor: tl.tensor,
    steps: tl.tensor,
    lowest: tl.tensor,
    highest: tl.tensor,
    zero_point: tl.tensor,
    share_zero: tl.tensor,
    value_zero: tl.tensor,
    result_scale: tl.tensor,
    lowest_out: tl.tensor,
    highest_out: tl.tensor,
    zero_out: tl.tensor,
    rounds: tl.constexpr,
    block_rows: tl.constexpr,
    block_keys: tl.constexpr,
    block_depth: tl.constexpr,
    block_values: tl.constexpr,
) -> None:
    """Attention of codes: Σ (share − zero_point) · (value − value_zero) · result_scale.

    Queries, keys and `sums` are those of `softmax_sums_kernel`. `value` is codes int8, a row of
    `value_stride` ≥ B·keys for each channel. A share is the code of softmax(q kᵀ) · `steps`, whose
    zero point is also `share_zero`. `result` (B·tokens, channels) is of any floating type, or, if
    it `rounds`, codes of the layer behind, as in `multiply_kernel`. The
    grid is (blocks of tokens, heads · blocks of a head's channels, B).
    """
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    blocks = tl.cdiv(width, block_values)
    head, image = tl.program_id(1) // blocks, tl.program_id(2)
    heads = tl.num_programs(1) // blocks
    depth = tl.arange(0, block_depth)
    source = (image * tokens + row).to(tl.int64)[:, None] * query_stride + head * width
    asked = (row < tokens)[:, None] & (depth < width)[None, :]
    queries = tl.load(query + source + depth[None, :], mask=asked, other=0)
    first_key = key + (image * keys).to(tl.int64) * key_stride + head * width
    inner = tl.program_id(1) % blocks * block_values + tl.arange(0, block_values)
    channel = head * width + inner
    known_channel = inner < width
    first_value = value + channel.to(tl.int64)[:, None] * value_stride + image * keys
    place = (image * heads + head) * tokens + row
    logarithms = tl.load(sums + place, mask=row < tokens, other=0.0)
    total = tl.zeros((block_rows, block_values), tl.int32)
    code_sums = tl.zeros((block_rows,), tl.int32)
    value_sums = tl.zeros((block_values,), tl.int32)
    for start in range(0, keys, block_keys):
        key_row = start + tl.arange(0, block_keys)
        logits = block_of_logits(
            queries, first_key, key_row, keys, key_stride, depth, width, logit_factor
        )
        share = tl.exp2(logits - logarithms[:, None])
        codes = code_of(share * steps, lowest, highest, zero_point)
        known = known_channel[:, None] & (key_row < keys)[None, :]
        # Keys beyond the last meet values that are zero.
        values = tl.load(first_value + key_row[None, :], mask=known, other=0)
        total = tl.dot(codes, tl.trans(values), total, out_dtype=tl.int32)
        code_sums += tl.sum(tl.where((key_row < keys)[None, :], codes, 0).to(tl.int32), 1)
        value_sums += tl.sum(values.to(tl.int32), 1)
    total -= code_sums[:, None] * value_zero
    total -= share_zero * (value_sums - keys * value_zero)[None, :]
    mixed = total.to(tl.float32) * result_scale
    target = (image * tokens + row).to(tl.int64)[:, None] * result_stride + channel[None, :]
    written = (row < tokens)[:, None] & known_channel[None, :]
    if rounds:
        mixed = mixed * tl.load(factor_out + channel, mask=known_channel, other=0.0)[None, :]
        mixed += tl.load(offset_out + channel, mask=known_channel, other=0.0)[None, :]
        mixed_codes = code_of(mixed, lowest_out, highest_out, zero_out)
        tl.store(result + target, mixed_codes, mask=written)
    else:
        tl.store(result + target, mixed.to(result.dtype.element_ty), mask=written)
