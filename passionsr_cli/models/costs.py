"""Parameters and operations of a model, from its architecture alone (no weights, no memory)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import ModelDescription

OUTPUT_PX = 512
FULL_BITS = 32


@dataclass(frozen=True)
class PartCosts:
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
    """What is left of a model in 32-bit equivalents when some parts are quantized."""

    parts: str
    bits: str
    parameters: float
    operations: float


def measure(description: ModelDescription, output_px: int = OUTPUT_PX) -> list[PartCosts]:
    """Costs of the UNet and the VAE for one square result, found on the meta device."""
    with torch.device("meta"):
        model = OneStepModel(description)
        upscaled = torch.empty(1, 3, output_px, output_px)
    costs = []
    counted = {"unet": [0], "vae": [0]}
    hooks = [
        layer.register_forward_hook(_weighted_operations(counter))
        for part, counter in counted.items()
        for layer in getattr(model, part).modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as every:
        with FlopCounterMode(display=False) as unet:
            latent = model.encode(upscaled)
            encoder_total = unet.get_total_flops()
            noise = model.predict(latent)
            unet_total = unet.get_total_flops() - encoder_total
        model.decode(model.to_x0(latent, noise))
    for hook in hooks:
        hook.remove()
    totals = {"unet": unet_total, "vae": every.get_total_flops() - unet_total}
    for name, counter in counted.items():
        part: nn.Module = getattr(model, name)
        parameters = sum(p.numel() for p in part.parameters())
        costs.append(PartCosts(name, parameters, counter[0], totals[name] - counter[0]))
    return costs


def _weighted_operations(counter: list[int]) -> Any:
    """A forward hook that adds a layer's operations to `counter[0]`."""

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        outputs = output.numel() // weight.shape[0]
        counter[0] += 2 * outputs * weight.numel()

    return count


def compression_rows(costs: Sequence[PartCosts]) -> list[CompressionRow]:
    """Full precision, then UNet only and everything at 8, 6 and 4 bits (PassionSR, Table 3)."""
    names = [part.name for part in costs]
    rows = [_compressed(costs, (), FULL_BITS)]
    for quantized in (("unet",), tuple(names)):
        rows += [_compressed(costs, quantized, bits) for bits in (8, 6, 4)]
    return rows


def _compressed(costs: Sequence[PartCosts], quantized: Sequence[str], bits: int) -> CompressionRow:
    share = {part.name: bits / FULL_BITS if part.name in quantized else 1.0 for part in costs}
    return CompressionRow(
        " + ".join(quantized) or "none",
        f"W{bits}A{bits}",
        sum(part.parameters * share[part.name] for part in costs),
        sum(part.operations * share[part.name] for part in costs),
    )
