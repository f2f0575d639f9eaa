"""Bytes that a layer takes in a checkpoint, from what is decided about it. Imports no torch."""

from __future__ import annotations

from math import prod

from passionsr_cli.quantization.schemes import AttentionPlan, LayerPlan, LayerRecord, Scheme

FLOAT_BYTES, HALF_BYTES = 4, 2
SCALE_BYTES, ZERO_POINT_BYTES = 4, 2
# What the file's header says of a tensor beside its name: type, shape, where it is.
HEADER_BYTES = 75


def layer_bytes(record: LayerRecord, channels: int = 0) -> int:
    """Bytes of a quantized layer's tensors with their places in the file's header."""
    tensors = layer_tensors(record, channels)
    return sum(tensors.values()) + sum(len(name) + HEADER_BYTES for name in tensors)


def layer_tensors(record: LayerRecord, channels: int = 0) -> dict[str, int]:
    """Bytes of each of a quantized layer's tensors, by their names in a checkpoint.

    Seldom a little more than it takes: floating-point numbers that half precision holds are counted
    as float32. `channels` are those of an attention, whose record does not know them.
    """
    plan, tensors = record.plan, dict[str, int]()
    if isinstance(plan, AttentionPlan):
        if plan.channel_scale:
            tensors["channel_scale"] = FLOAT_BYTES * channels
        for name, scheme in plan.operands.items():
            tensors |= _grid(name, scheme, 1)
    else:
        assert plan is not None
        tensors = _weighted(record, plan)
    return {f"{record.name}.{key}": count for key, count in tensors.items()}


def _weighted(record: LayerRecord, plan: LayerPlan) -> dict[str, int]:
    outputs, inputs, *kernel = record.weight_shape
    numbers = prod(record.weight_shape)
    tensors = {}
    if record.parameters > numbers or plan.channel_shift:
        tensors["bias"] = FLOAT_BYTES * outputs
    if plan.channel_scale or plan.split is not None:
        tensors["channel_scale"] = FLOAT_BYTES * inputs
    if plan.channel_shift:
        tensors["channel_shift"] = FLOAT_BYTES * inputs
    if plan.rank:
        tensors["branch_down"] = HALF_BYTES * plan.rank * inputs * prod(kernel)
        tensors["branch_up"] = HALF_BYTES * plan.rank * outputs
    if plan.activation is not None:
        tensors |= _grid("input", plan.activation, 1)
    if plan.weight is None:
        return tensors | {"float_weight": FLOAT_BYTES * numbers}
    grids = 1 if plan.weight.channel_axis is None else outputs
    packed = -(-numbers * plan.weight.num_bits // 8)
    return tensors | {"weight": packed} | _grid("weight", plan.weight, grids)


def _grid(name: str, scheme: Scheme, count: int) -> dict[str, int]:
    tensors = {f"{name}_scale": SCALE_BYTES * count}
    if not scheme.symmetric:
        tensors[f"{name}_zero_point"] = ZERO_POINT_BYTES * count
    return tensors
