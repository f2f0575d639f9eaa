"""Composition of a checkpoint: what its bytes hold, and how wide its operations are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.bits import FLOAT_BITS
from passionsr_cli.checkpoints.catalogue import Checkpoint
from passionsr_cli.checkpoints.sizes import FLOAT_BYTES, layer_tensors
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.layers.convert import attention_shape, find_layers
from passionsr_cli.methods.stages import LayerDesign
from passionsr_cli.models.costs import layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import ATTENTION, LayerPlan, LayerRecord


def composition(checkpoint: Checkpoint, named_bits: int | None) -> dict[str, float]:
    """Bits for each of the model's parameters, and shares of its operations in percent.

    `weight_bits` are of the integers of weights, `branch_bits` of 16-bit branches, `rest_bits` of
    all else: scales, biases, what stays in floating point. An operation is as wide as the wider of
    its operands; `named_share` is of those of at most `named_bits`, `eight_share` of wider
    integers, `bf16_share` of branches, and `float_share` of layers that are not quantized.
    """
    manifest = checkpoint.manifest
    sizes = {name: tensor.nbytes for name, tensor in checkpoint.entry.tensors().items()}
    with torch.device("meta"):
        model = OneStepModel(manifest.model.description)
    return {
        **_bits(sizes, manifest.layers, manifest.model.parameters),
        **_shares(model, manifest.layers, named_bits),
    }


def planned_composition(
    description: ModelDescription,
    settings: CalibrationSettings,
    design: LayerDesign,
    named_bits: int | None,
) -> dict[str, float]:
    """`composition` of a checkpoint that is only planned, and its size (`mb`, 10⁶ bytes).

    From the architecture alone: what is not quantized counts as float32.
    """
    with torch.device("meta"):
        model, whole = OneStepModel(description), OneStepModel(description)
    channels = {
        name: attention_shape(layer)[0]
        for name, kind, layer in find_layers(whole)
        if kind == ATTENTION
    }
    records = quantize_model(model, settings, design)
    planned = [record for record in records if record.plan is not None]
    inside = tuple(f"{record.name}." for record in planned if record.weight_shape)
    sizes = {
        name: FLOAT_BYTES * tensor.numel()
        for name, tensor in whole.state_dict().items()
        if not name.startswith(inside)
    }
    for record in planned:
        sizes |= layer_tensors(record, channels.get(record.name, 0))
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    return {
        "mb": sum(sizes.values()) / 1e6,
        **_bits(sizes, records, parameters),
        **_shares(whole, records, named_bits),
    }


def _bits(
    sizes: Mapping[str, int], records: Sequence[LayerRecord], parameters: int
) -> dict[str, float]:
    weights = {f"{record.name}.weight" for record in records if record.weight is not None}
    found = {"weight_bits": 0.0, "branch_bits": 0.0, "rest_bits": 0.0}
    for name, size in sizes.items():
        branch = name.endswith((".branch_down", ".branch_up"))
        key = "branch_bits" if branch else "weight_bits" if name in weights else "rest_bits"
        found[key] += 8 * size / parameters
    return found


def _shares(
    model: OneStepModel, layers: Sequence[LayerRecord], named_bits: int | None
) -> dict[str, float]:
    records = {record.name: record for record in layers}
    found = {"named_share": 0.0, "eight_share": 0.0, "bf16_share": 0.0, "float_share": 0.0}
    for costs in layer_costs(model):
        record = records[costs.name]
        widest = _widest(record)
        named = named_bits is not None and widest <= named_bits
        key = "named_share" if named else "eight_share"
        found["float_share" if widest == FLOAT_BITS else key] += costs.operations
        found["bf16_share"] += costs.operations * _branch_work(record)
    total = sum(found.values())
    return {key: 100 * operations / total for key, operations in found.items()}


def _widest(record: LayerRecord) -> int:
    """Bits of the wider operand; of an attention both are activations."""
    operands = [record.activation]
    if record.weight_shape:
        operands.append(record.weight)
    return max(FLOAT_BITS if scheme is None else scheme.num_bits for scheme in operands)


def _branch_work(record: LayerRecord) -> float:
    """Operations of a layer's branch as a part of the layer's own."""
    if not isinstance(record.plan, LayerPlan):
        return 0.0
    outputs, *inputs = record.weight_shape
    return record.plan.rank * (1 / outputs + 1 / prod(inputs))
