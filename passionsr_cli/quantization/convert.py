"""Replace the layers of a model by quantized ones, and say what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from passionsr_cli.quantization.affine import Scheme
from passionsr_cli.quantization.attention import QuantizedAttention
from passionsr_cli.quantization.layers import QuantizedConv2d, QuantizedLayer, QuantizedLinear
from passionsr_cli.quantization.parts import SummedParts
from passionsr_cli.quantization.plans import AttentionPlan, LayerPlan, State
from passionsr_cli.quantization.released import (
    ReleasedAttention,
    ReleasedAttentionPlan,
    ReleasedConv2d,
    ReleasedLinear,
    ReleasedPlan,
)

Quantized: TypeAlias = QuantizedLayer | QuantizedAttention
Plan: TypeAlias = LayerPlan | AttentionPlan

CONVOLUTION, LINEAR, ATTENTION = "convolution", "linear", "attention"
_PLAN_TYPES: dict[str, type[Plan]] = {
    CONVOLUTION: LayerPlan,
    LINEAR: LayerPlan,
    ATTENTION: AttentionPlan,
}

_RELEASED_PLANS: dict[str, type[Plan]] = {
    CONVOLUTION: ReleasedPlan,
    LINEAR: ReleasedPlan,
    ATTENTION: ReleasedAttentionPlan,
}
# Behind the name of a layer that runs as a sum of layers on parts of its input channels.
PARTS_SUFFIX = ".parts."


@dataclass(frozen=True)
class LayerRow:
    """What became of one layer. Without a plan it was left alone, and `reason` says why.

    `reason` of a quantized layer tells what is special about it, if anything. `weight_shape` is
    for readers of packed weights; attention has none.
    """

    name: str
    kind: str
    parameters: int
    plan: Plan | None
    reason: str = ""
    weight_shape: tuple[int, ...] = ()

    @property
    def weight(self) -> Scheme | None:
        return self.plan.weight if isinstance(self.plan, LayerPlan) else None

    @property
    def activation(self) -> Scheme | None:
        return None if self.plan is None else self.plan.activation

    def as_dict(self) -> dict[str, Any]:
        """For a manifest; `row_from` reads it."""
        return asdict(self)


def row_from(values: dict[str, Any]) -> LayerRow:
    """The row that `LayerRow.as_dict` wrote. Raises KeyError, TypeError or ValueError if not."""
    plan = values["plan"]
    if plan is not None:
        schemes = {
            key: Scheme(**plan[key])
            for key in ("weight", "activation")
            if plan.get(key) is not None
        }
        types = _RELEASED_PLANS if plan.get("numerics") == "released" else _PLAN_TYPES
        plan = types[values["kind"]](**{**plan, **schemes})
    shape = tuple(values.get("weight_shape", ()))
    return LayerRow(**{**values, "plan": plan, "weight_shape": shape})


def find_layers(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """(name, kind, layer) of every convolution, linear layer and attention, in model order."""
    from diffusers.models.attention_processor import Attention

    kinds = ((nn.Conv2d, CONVOLUTION), (nn.Linear, LINEAR), (Attention, ATTENTION))
    for name, layer in model.named_modules():
        for kind_of_layer, kind in kinds:
            if isinstance(layer, kind_of_layer):
                yield name, kind, layer


def convert(
    model: nn.Module, decide: Callable[[str, str, nn.Module], tuple[Plan | None, str]]
) -> list[LayerRow]:
    """Quantize the layers of `model` in place; a row for each, quantized or not.

    `decide(name, kind, layer)` gives the plan and a remark, or None and the reason why the
    layer stays as it is. New layers start in `State.FLOAT`: the model computes what it did.
    """
    rows = []
    for name, kind, layer in list(find_layers(model)):
        obstacle = _obstacle(layer)
        plan, reason = (None, obstacle) if obstacle else decide(name, kind, layer)
        shape = tuple(layer.weight.shape) if isinstance(layer, (nn.Conv2d, nn.Linear)) else ()
        rows.append(LayerRow(name, kind, _own_parameters(layer), plan, reason, shape))
    apply(model, rows)
    return rows


def apply(model: nn.Module, rows: Sequence[LayerRow]) -> None:
    """Replace the layers that have a plan."""
    # Attentions first: they ask plain projections for their width.
    for row in rows:
        if isinstance(row.plan, AttentionPlan):
            layer = model.get_submodule(row.name)
            channels = _output_width(layer.get_submodule("to_q"))
            heads = int(layer.heads)  # type: ignore[arg-type]
            layer.set_processor(_attention(channels, heads, row.plan))  # type: ignore[operator]
    _take_apart(model, rows)
    for row in rows:
        if isinstance(row.plan, LayerPlan):
            model.set_submodule(row.name, _quantized(model.get_submodule(row.name), row.plan))


def _take_apart(model: nn.Module, rows: Sequence[LayerRow]) -> None:
    """Layers whose rows are of their parts become sums of these."""
    widths: dict[str, list[int]] = {}
    for row in rows:
        whole, suffix, _ = row.name.rpartition(PARTS_SUFFIX)
        if suffix:
            widths.setdefault(whole, []).append(row.weight_shape[1])
    for name, parts in widths.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        model.set_submodule(name, SummedParts(layer, parts))


def _attention(channels: int, heads: int, plan: AttentionPlan) -> QuantizedAttention:
    if isinstance(plan, ReleasedAttentionPlan):
        return ReleasedAttention(channels, heads, plan)
    return QuantizedAttention(channels, heads, plan)


def _quantized(layer: nn.Module, plan: LayerPlan) -> QuantizedLayer:
    if isinstance(layer, nn.Conv2d):
        return (
            ReleasedConv2d(layer, plan)
            if isinstance(plan, ReleasedPlan)
            else QuantizedConv2d(layer, plan)
        )
    assert isinstance(layer, nn.Linear)
    return (
        ReleasedLinear(layer, plan)
        if isinstance(plan, ReleasedPlan)
        else QuantizedLinear(layer, plan)
    )


def quantized_layers(model: nn.Module) -> dict[str, Quantized]:
    """The quantized layers of a converted model by the names their rows have."""
    return {
        name.removesuffix(".processor"): module
        for name, module in model.named_modules()
        if isinstance(module, (QuantizedLayer, QuantizedAttention))
    }


def set_state(layers: Sequence[Quantized], state: State) -> None:
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
