"""A model with the quantizers of released files in it, in either arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from passionsr_cli.bits import EIGHT_BITS, Bits
from passionsr_cli.checkpoints.released.arithmetic import ReleasedAttention, ReleasedLayer
from passionsr_cli.checkpoints.released.files import ReleasedPart
from passionsr_cli.checkpoints.released.layers import (
    Quantizers,
    attention_tensors,
    quantizers_of,
    released_tensors,
    standard_attention,
    standard_parts,
    standard_weights,
)
from passionsr_cli.config import PUBLISHED_EIGHT_BIT_LAYERS
from passionsr_cli.errors import ModelError
from passionsr_cli.layers.convert import PARTS_SUFFIX, Quantized, apply, find_layers
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.quantization.schemes import (
    ATTENTION,
    EXCEPTION,
    AttentionPlan,
    LayerPlan,
    LayerRecord,
    ReleasedAttentionPlan,
    ReleasedPlan,
    Scheme,
)

Numerics = Literal["standard", "released"]
# What a layer becomes: its records, and the layer of each that has a plan.
Converted = list[tuple[LayerRecord, Quantized | None]]

NOT_IN_FILES = "in floating point: no file quantizes it"
SYMMETRIC = "8-bit weights made symmetric for integer kernels"
HALVES = "one of two halves that are summed"


@torch.no_grad()
def convert_model(
    model: OneStepModel,
    parts: Mapping[str, ReleasedPart],
    numerics: Numerics,
    reporter: Reporter = SILENT,
) -> list[LayerRecord]:
    """Quantize a model in place by what the files hold; a record of each of its layers."""
    left = {name: tensors for part in parts.values() for name, tensors in part.modules.items()}
    converted: Converted = []
    for name, kind, layer in list(find_layers(model)):
        part = parts.get(name.partition(".")[0])
        # Of the VAE's attention the released code quantizes the projections alone.
        floating = part is not None and part.name == "vae" and kind == ATTENTION
        if part is None or (floating and name not in left):
            converted.append((_record(name, kind, layer, None, NOT_IN_FILES), None))
        elif name not in left:
            raise ModelError(f"{part.file} has nothing for {name}")
        elif kind == ATTENTION:
            converted.append(_attention(name, layer, left.pop(name), part, numerics))
        else:
            assert isinstance(layer, (nn.Conv2d, nn.Linear))
            converted += _layer(name, kind, layer, left.pop(name), part, numerics)
    _take_norms(model, left, reporter)
    if left:
        raise ModelError(f"nothing takes {', '.join(list(left)[:3])} ({len(left)} in all)")
    records = [record for record, _ in converted]
    made = {record.name: layer for record, layer in converted if layer is not None}
    apply(model, records, lambda layer, record: made[record.name])
    return records


def _layer(
    name: str,
    kind: str,
    layer: nn.Conv2d | nn.Linear,
    tensors: Mapping[str, Tensor],
    part: ReleasedPart,
    numerics: Numerics,
) -> Converted:
    found = quantizers_of(name, layer, tensors)
    if (len(found.weight) == 2) != part.settings.split:
        raise ModelError(
            f"{part.file}: {name} has {len(found.weight)} grids, but the YAML says split: "
            f"{str(part.settings.split).lower()}; give the YAML the file was calibrated with"
        )
    bits = _layer_bits(name, part)
    remark = EXCEPTION if bits != part.bits else ""
    if numerics == "released":
        plan = ReleasedPlan(
            Scheme(bits.weight, False, 0),
            Scheme(bits.activation),
            True,
            True,
            halves=_halves(found),
        )
        record = _record(name, kind, layer, plan, remark)
        return [(record, ReleasedLayer(layer, plan, released_tensors(layer, found, bits)))]
    weights = standard_weights(bits.weight)
    standard = LayerPlan(weights, Scheme(bits.activation), True, True)
    contents = standard_parts(layer, found, standard)
    remarks = [remark, SYMMETRIC if weights.symmetric else ""]
    if len(contents) == 1:
        return [(_record(name, kind, layer, standard, _joined(remarks)), contents[0])]
    return [
        (
            LayerRecord(
                f"{name}{PARTS_SUFFIX}{number}",
                kind,
                content.weight.numel() + (0 if number else _biases(layer)),
                standard,
                _joined([*remarks, HALVES]),
                tuple(content.weight.shape),
            ),
            content,
        )
        for number, content in enumerate(contents)
    ]


def _attention(
    name: str,
    layer: nn.Module,
    tensors: Mapping[str, Tensor],
    part: ReleasedPart,
    numerics: Numerics,
) -> tuple[LayerRecord, Quantized]:
    scheme = Scheme(part.settings.act_quant_bits)
    heads = int(layer.heads)  # type: ignore[arg-type]
    if numerics == "released":
        released = ReleasedAttentionPlan(scheme, True)
        content = attention_tensors(name, tensors, scheme.num_bits)
        remark = "a scale of each token: one tile size"
        record = _record(name, ATTENTION, layer, released, remark)
        return record, ReleasedAttention(heads, released, content)
    remark = "q and k made symmetric, the tokens' scale taken into the grids"
    record = _record(name, ATTENTION, layer, AttentionPlan(scheme, True), remark)
    return record, standard_attention(name, tensors, heads, scheme)


def _layer_bits(name: str, part: ReleasedPart) -> Bits:
    return EIGHT_BITS if name in PUBLISHED_EIGHT_BIT_LAYERS else part.bits


def _halves(found: Quantizers) -> Literal["none", "channels", "tokens"]:
    if len(found.weight) == 1:
        return "none"
    return "tokens" if found.as_tokens else "channels"


def _record(
    name: str, kind: str, layer: nn.Module, plan: LayerPlan | AttentionPlan | None, reason: str
) -> LayerRecord:
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return LayerRecord(name, kind, 0, plan, reason)
    count = layer.weight.numel() + _biases(layer)
    return LayerRecord(name, kind, count, plan, reason, tuple(layer.weight.shape))


def _biases(layer: nn.Conv2d | nn.Linear) -> int:
    return 0 if layer.bias is None else layer.bias.numel()


def _joined(remarks: Sequence[str]) -> str:
    return "; ".join(remark for remark in remarks if remark)


def _take_norms(
    model: OneStepModel, left: dict[str, dict[str, Tensor]], reporter: Reporter
) -> None:
    """Norms come with the files; where they are not the model's, it is told."""
    differing = 0
    for name in [name for name in left if left[name].keys() <= {"weight", "bias"}]:
        norm = model.get_submodule(name)
        for leaf, tensor in left.pop(name).items():
            own = getattr(norm, leaf, None)
            if not isinstance(own, nn.Parameter) or own.shape != tensor.shape:
                raise ModelError(f"{name}.{leaf} does not fit the model's")
            differing += not torch.allclose(own, tensor, rtol=1e-3, atol=1e-5)
            own.copy_(tensor)
    if differing:
        reporter.note(
            f"{differing} tensors of norms are not those of the model: the file was calibrated on "
            "other weights"
        )
