"""Replace the layers of a model by quantized ones, then by frozen ones; a record of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from passionsr_cli.layers.attention import QuantizedAttention
from passionsr_cli.layers.frozen import FrozenAttention, FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.learning_attention import LearningAttention
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.layers.split_sum import SplitSum
from passionsr_cli.quantization.schemes import (
    ATTENTION,
    CONVOLUTION,
    LINEAR,
    AttentionPlan,
    LayerPlan,
    LayerRecord,
    Plan,
    State,
)

Quantized: TypeAlias = QuantizedLayer | QuantizedAttention
Learning: TypeAlias = LearningLayer | LearningAttention
Frozen: TypeAlias = FrozenLayer | FrozenAttention
# Makes of a layer and its record what takes its place.
Build: TypeAlias = Callable[[nn.Module, LayerRecord], Quantized]
# Behind the name of a layer that runs as a sum of layers on parts of its input channels.
PARTS_SUFFIX = ".parts."


def find_layers(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """(name, kind, layer) of every convolution, linear layer and attention, in model order."""
    for name, layer in model.named_modules():
        kind = kind_of(layer)
        if kind is not None:
            yield name, kind, layer


def kind_of(layer: nn.Module) -> str | None:
    """The kind of a layer that can be quantized; None for any other."""
    from diffusers.models.attention_processor import Attention

    kinds = ((nn.Conv2d, CONVOLUTION), (nn.Linear, LINEAR), (Attention, ATTENTION))
    return next((kind for type_, kind in kinds if isinstance(layer, type_)), None)


def build_layer(layer: nn.Module, plan: Plan) -> Learning:
    """The learning layer, or attention processor, that takes the place of `layer` on its device."""
    device = next(layer.parameters()).device
    if isinstance(plan, AttentionPlan):
        return LearningAttention(*attention_shape(layer), plan).to(device)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return LearningLayer(layer, plan).to(device)


def attention_shape(layer: nn.Module) -> tuple[int, int]:
    """(channels, heads) of diffusers' `Attention`."""
    heads: int = layer.heads  # type: ignore[assignment]
    return _output_width(layer.get_submodule("to_q")), heads


def convert(
    model: nn.Module, decide: Callable[[str, str, nn.Module], tuple[Plan | None, str]]
) -> list[LayerRecord]:
    """Quantize the layers of `model` in place; a record of each, quantized or not.

    `decide(name, kind, layer)` gives the plan and a remark, or None and the reason why the
    layer stays as it is. New layers start in `State.FLOAT`: the model computes what it did.
    """
    records = []
    for name, kind, layer in list(find_layers(model)):
        obstacle = _obstacle(layer)
        plan, reason = (None, obstacle) if obstacle else decide(name, kind, layer)
        shape = tuple(layer.weight.shape) if isinstance(layer, (nn.Conv2d, nn.Linear)) else ()
        records.append(LayerRecord(name, kind, _own_parameters(layer), plan, reason, shape))
    apply(model, records, _planned)
    return records


def _planned(layer: nn.Module, record: LayerRecord) -> Learning:
    assert record.plan is not None
    return build_layer(layer, record.plan)


def apply(model: nn.Module, records: Sequence[LayerRecord], build: Build) -> None:
    """Replace the layers that have a plan by what `build` makes of each."""
    # Attentions first: they ask plain projections for their width.
    attentions = [record for record in records if isinstance(record.plan, AttentionPlan)]
    weighted = [record for record in records if isinstance(record.plan, LayerPlan)]
    for record in attentions:
        _put(model, record.name, build(model.get_submodule(record.name), record))
    _take_apart(model, records)
    for record in weighted:
        _put(model, record.name, build(model.get_submodule(record.name), record))


def freeze(model: nn.Module) -> dict[str, Frozen]:
    """Replace the learning layers of a model by the frozen ones they come to."""
    layers = learning_layers(model)
    for name in list(layers):
        # What has learned goes as soon as its successor is there: memory never holds all twice.
        _put(model, name, layers.pop(name).freeze())
    # A 1×1 kernel's strides choose the order of sums: those of a loaded checkpoint.
    model.to(memory_format=torch.channels_last)
    return frozen_layers(model)


def _put(model: nn.Module, name: str, layer: Quantized) -> None:
    if isinstance(layer, QuantizedAttention):
        model.get_submodule(name).set_processor(layer)  # type: ignore[operator]
    else:
        model.set_submodule(name, layer)


def _take_apart(model: nn.Module, records: Sequence[LayerRecord]) -> None:
    """Layers whose records are of their parts become sums of these."""
    widths: dict[str, list[int]] = {}
    for record in records:
        whole, suffix, _ = record.name.rpartition(PARTS_SUFFIX)
        if suffix:
            widths.setdefault(whole, []).append(record.weight_shape[1])
    for name, parts in widths.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        model.set_submodule(name, SplitSum(layer, parts))


def quantized_layers(model: nn.Module) -> dict[str, Quantized]:
    """The quantized layers of a converted model, of any kind, by the names of their records."""
    return {
        name.removesuffix(".processor"): module
        for name, module in model.named_modules()
        if isinstance(module, (QuantizedLayer, QuantizedAttention))
    }


def learning_layers(model: nn.Module) -> dict[str, Learning]:
    """The layers of a model that are calibrated."""
    layers = quantized_layers(model).items()
    return {n: x for n, x in layers if isinstance(x, (LearningLayer, LearningAttention))}


def frozen_layers(model: nn.Module) -> dict[str, Frozen]:
    """The frozen layers of a model."""
    layers = quantized_layers(model).items()
    return {n: x for n, x in layers if isinstance(x, (FrozenLayer, FrozenAttention))}


def set_state(layers: Sequence[Learning], state: State) -> None:
    """Put all layers into one state."""
    for layer in layers:
        layer.state = state


def _own_parameters(layer: nn.Module) -> int:
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return 0
    return layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel())


def _output_width(projection: nn.Module) -> int:
    weight = projection.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[0])


def _obstacle(layer: nn.Module) -> str:
    """Why a layer cannot be quantized here; empty if it can."""
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            return "grouped convolution"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return (
                f"padding {layer.padding if layer.padding_mode == 'zeros' else layer.padding_mode}"
            )
        return ""
    if isinstance(layer, nn.Linear):
        return ""
    special = ("norm_q", "norm_k", "spatial_norm", "added_kv_proj_dim", "norm_cross")
    found = [name for name in special if getattr(layer, name, None)]
    return f"attention with {', '.join(found)}" if found else ""
