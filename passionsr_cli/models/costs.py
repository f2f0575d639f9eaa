"""Parameters and operations of a model, from its architecture alone (no weights, no memory)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from passionsr_cli.description import ModelDescription
from passionsr_cli.layers.convert import find_layers
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import ATTENTION

OUTPUT_PX = 512
FULL_BITS = 32


@dataclass(frozen=True)
class ComponentCosts:
    """One part of a model. An operation is a multiplication or an addition.

    `operations` are those of layers with weights, `attention_operations` those of the products
    between activations.
    """

    name: str
    parameters: int
    operations: int
    attention_operations: int


@dataclass(frozen=True)
class CompressionRow:
    """Size of a model in 32-bit equivalents when some parts are quantized."""

    parts: str
    bits: str
    parameters: float
    operations: float


@dataclass(frozen=True)
class LayerCosts:
    """One convolution, linear layer or attention; of an attention only its two products count."""

    name: str
    kind: str
    operations: int


def counted_px(description: ModelDescription, output_px: int = OUTPUT_PX) -> int:
    """The side of the result that costs are of: `output_px`, or the next size the model takes."""
    return output_px + -output_px % description.unit_px


def layer_costs(model: OneStepModel, output_px: int = OUTPUT_PX) -> list[LayerCosts]:
    """Operations of every layer that runs for one square result of `counted_px`, of a model on the
    meta device."""
    output_px = counted_px(model.description, output_px)
    running: dict[str, int] = {}
    found = {name: (kind, layer) for name, kind, layer in find_layers(model)}
    handles = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for name, (_, layer) in found.items():
            started, ended = _total_of(counter, running, name)
            handles += [
                layer.register_forward_pre_hook(started),
                layer.register_forward_hook(ended),
            ]
        model(torch.empty(1, 3, output_px, output_px, device="meta"))
    for handle in handles:
        handle.remove()
    costs = []
    for name, (kind, _) in found.items():
        if name in running:
            inside = sum(count for other, count in running.items() if other.startswith(f"{name}."))
            costs.append(LayerCosts(name, kind, running[name] - inside))
    return costs


def _total_of(counter: FlopCounterMode, totals: dict[str, int], name: str) -> tuple[Any, Any]:
    """Hooks before and after a layer's forward that note what was counted between them."""

    def started(layer: nn.Module, inputs: Any) -> None:
        totals[name] = totals.get(name, 0) - counter.get_total_flops()

    def ended(layer: nn.Module, inputs: Any, output: Any) -> None:
        totals[name] += counter.get_total_flops()

    return started, ended


def measure(description: ModelDescription, output_px: int = OUTPUT_PX) -> list[ComponentCosts]:
    """Costs of the UNet and the VAE for one square result, found on the meta device."""
    with torch.device("meta"):
        model = OneStepModel(description)
    layers = layer_costs(model, output_px)
    costs = []
    for part in ("unet", "vae"):
        own = [layer for layer in layers if layer.name.startswith(f"{part}.")]
        attention = sum(layer.operations for layer in own if layer.kind == ATTENTION)
        weighted = sum(layer.operations for layer in own if layer.kind != ATTENTION)
        module: nn.Module = getattr(model, part)
        parameters = sum(p.numel() for p in module.parameters())
        costs.append(ComponentCosts(part, parameters, weighted, attention))
    return costs


def compression_rows(costs: Sequence[ComponentCosts]) -> list[CompressionRow]:
    """Full precision, then UNet only and everything at 8, 6 and 4 bits (PassionSR, Table 3)."""
    names = [part.name for part in costs]
    rows = [CompressionRow("none", f"W{FULL_BITS}A{FULL_BITS}", *compressed(costs, {}))]
    for quantized in (("unet",), tuple(names)):
        for bits in (8, 6, 4):
            left = compressed(costs, dict.fromkeys(quantized, (bits, bits)))
            rows.append(CompressionRow(" + ".join(quantized), f"W{bits}A{bits}", *left))
    return rows


def compressed(
    costs: Sequence[ComponentCosts], bits: Mapping[str, tuple[int, int]]
) -> tuple[float, float]:
    """Parameters and operations in 32-bit equivalents, at (weight, activation) bits of each part.

    A part without bits is at full precision. An operation is as wide as the wider of its operands:
    that is the arithmetic it takes.
    """
    parameters = operations = 0.0
    for part in costs:
        weight_bits, activation_bits = bits.get(part.name, (FULL_BITS, FULL_BITS))
        parameters += part.parameters * weight_bits / FULL_BITS
        operations += part.operations * max(weight_bits, activation_bits) / FULL_BITS
    return parameters, operations
