"""From settings to how each layer of a model is quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from passionsr_cli.bits import FLOAT_BITS, MOST_BITS, Bits
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.layers.convert import convert, find_layers
from passionsr_cli.methods.stages import Branches, LayerDesign
from passionsr_cli.models.chain import concatenations
from passionsr_cli.models.components import absent, component_of, is_named, is_upsampler
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.low_rank import check_rank
from passionsr_cli.quantization.schemes import (
    ATTENTION,
    EXCEPTION,
    FLOATING,
    NARROWED,
    AttentionPlan,
    GridFitting,
    LayerFitting,
    LayerPlan,
    LayerRecord,
    Plan,
    Scheme,
)
from passionsr_cli.system.text import suggestion

# Of weights behind a nearest-neighbour upsampling: sums of up to four of them are weights of 8 bits
# then, with which CPUs convolve before they enlarge, at less than half of the work.
MOST_UPSAMPLER_BITS = 6


def check_names(description: ModelDescription, settings: CalibrationSettings) -> None:
    """Refuse settings that name a layer the model does not have."""
    with torch.device("meta"):
        model = OneStepModel(description)
    kinds = {name: kind for name, kind, _ in find_layers(model)}
    names = [name for name, kind in kinds.items() if kind != ATTENTION]
    for setting in ("eight_bit_layers", "float_layers", "layer_bits"):
        known = kinds if setting == "layer_bits" else names
        for name in getattr(settings, setting):
            both = setting != "layer_bits" and any(is_named(layer, (name,)) for layer in known)
            gone = any(f"{name}.".startswith(f"{out}.") for out in absent(description))
            if name not in known and not both and not gone:
                hint = suggestion(name, known, most=3)
                raise ConfigError(f"{setting}: the model has no layer '{name}'{hint}")
    for name, bits in settings.layer_bits.items():
        if kinds.get(name) == ATTENTION and bits.weight != FLOAT_BITS:
            raise ConfigError(f"layer_bits: '{name}' has no weights; write a8, found {bits}")


def check_design(
    description: ModelDescription, settings: CalibrationSettings, design: LayerDesign
) -> None:
    """Refuse a design that the model's layers cannot have: a rank above a layer's size, or in
    `layer_bits` without branches."""
    for name, bits in settings.layer_bits.items():
        if bits.rank and not design.branches.ranks:
            raise ConfigError(
                f"layer_bits: '{name}' is to have a branch of rank {bits.rank}, but method "
                f"'{settings.method}' has no branches; leave {bits.rank_name} out"
            )
    with torch.device("meta"):
        model = OneStepModel(description)
    decide = _decider(settings, design, concatenations(model))
    for layer in find_layers(model):
        decide(*layer)


def quantize_model(
    model: OneStepModel, settings: CalibrationSettings, design: LayerDesign
) -> list[LayerRecord]:
    """Convert a model as the settings say; a record of each of its layers."""
    return convert(model, _decider(settings, design, concatenations(model)))


def _decider(
    settings: CalibrationSettings, design: LayerDesign, boundaries: dict[str, int]
) -> Callable[[str, str, nn.Module], tuple[Plan | None, str]]:
    def decide(name: str, kind: str, layer: nn.Module) -> tuple[Plan | None, str]:
        bits = bits_of(settings, name)
        plan = plan_of(settings, design, boundaries, (name, kind, layer), bits)
        if plan is None:
            return None, FLOATING if bits.floating else "its activations are left in floating point"
        usual = _component_bits(settings, name)
        if name in settings.layer_bits or bits == usual:
            return plan, ""
        return plan, NARROWED if bits.weight < usual.weight else EXCEPTION

    return decide


def most_weight_bits(settings: CalibrationSettings, name: str) -> int:
    """The most bits that a layer's weights get where the settings do not name it."""
    is_capped = is_upsampler(name) and not is_named(name, settings.eight_bit_layers)
    return MOST_UPSAMPLER_BITS if is_capped else MOST_BITS


def bits_of(settings: CalibrationSettings, name: str) -> Bits:
    """Bits of a layer, or of an attention, as the settings say."""
    if name in settings.layer_bits:
        return settings.layer_bits[name]
    if is_named(name, settings.float_layers):
        return Bits(FLOAT_BITS, FLOAT_BITS)
    bits = _component_bits(settings, name)
    if is_named(name, settings.eight_bit_layers) and not bits.floating:
        return bits.at_least(MOST_BITS)
    if bits.weight == FLOAT_BITS:
        return bits
    return replace(bits, weight=min(bits.weight, most_weight_bits(settings, name)))


def _component_bits(settings: CalibrationSettings, name: str) -> Bits:
    return settings.unet if name.startswith("unet.") else settings.vae


def plan_of(
    settings: CalibrationSettings,
    design: LayerDesign,
    boundaries: Mapping[str, int],
    named_layer: tuple[str, str, nn.Module],
    bits: Bits,
) -> Plan | None:
    """Plan of a (name, kind, layer) at these bits; None where it stays in floating point."""
    name, kind, layer = named_layer
    exceptional = is_named(name, settings.eight_bit_layers)
    activation = _activation(settings, bits.activation, design.grids.offsets != "none")
    if kind == ATTENTION:
        return None if activation is None else _attention(activation, design)
    if bits.floating:
        return None
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    padded = isinstance(layer, nn.Conv2d) and any(layer.padding)
    transformation, branches, merged = design.transformation, design.branches, design.merged
    rank = 0 if exceptional or _is_narrow(layer, branches) else _rank(branches.ranks, name, layer)
    if bits.rank is not None:
        rank = check_rank(bits.rank, tuple(layer.weight.shape), name)
    shifts = {"none": False, "unpadded": not padded, "all": True}
    return LayerPlan(
        weight=_weight(settings, name, bits.weight, design.grids.offsets == "all"),
        activation=activation,
        channel_scale=transformation.channel_scale,
        channel_shift=shifts[transformation.channel_shift],
        split=boundaries.get(name) if transformation.split else None,
        rank=rank,
        merged_rank=0 if exceptional else _rank(merged.ranks, name, layer),
        fitting=LayerFitting(
            bounds_start=design.grids.bounds_start,
            scaled_gradient=design.grids.scaled_gradient,
            rounding=design.rounding,
            merged_start=merged.start,
        ),
    )


def _is_narrow(layer: nn.Module, branches: Branches) -> bool:
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return min(layer.weight.shape[:2]) < branches.narrowest


def _rank(ranks: Mapping[str, int], name: str, layer: nn.Module) -> int:
    """Rank that a design gives a layer: that of its kind in its component, else of its kind."""
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    kind = "linear"
    if isinstance(layer, nn.Conv2d):
        kind = "pointwise" if layer.kernel_size == (1, 1) else "convolution"
    rank = ranks.get(f"{component_of(name)}.{kind}", ranks.get(kind, 0))
    return check_rank(rank, tuple(layer.weight.shape), name)


def _attention(activation: Scheme, design: LayerDesign) -> AttentionPlan:
    own = design.transformation.attention_scale
    return AttentionPlan(
        activation,
        channel_scale=design.transformation.channel_scale or own is not None,
        scale_start=own or "extremes",
        fitting=GridFitting(design.grids.bounds_start, design.grids.scaled_gradient),
    )


def _weight(settings: CalibrationSettings, name: str, bits: int, offset: bool) -> Scheme | None:
    if bits == FLOAT_BITS:
        return None
    # What has the most bits that integer kernels take has none to spare for a zero point.
    is_widest = bits >= most_weight_bits(settings, name)
    symmetric = {"auto": is_widest, "symmetric": True, "asymmetric": False}
    axis = 0 if settings.weight_grids == "channel" else None
    return Scheme(bits, symmetric[settings.weights], axis, offset)


def _activation(settings: CalibrationSettings, bits: int, offset: bool) -> Scheme | None:
    if bits == FLOAT_BITS:
        return None
    return Scheme(bits, settings.activations == "symmetric", offset=offset)
