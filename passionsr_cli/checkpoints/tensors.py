"""Checkpoints: packed integers, grids and transformations, and a manifest that says it all.

Tensors of a layer L, as far as it has them:

    L.weight              the integers less quant_min, packed to their bits (`packing.pack`)
    L.weight_scale        float32, one per output channel or one
    L.weight_zero_point   int16, if asymmetric
    L.float_weight        s ⊙ W where weights stay in floating point
    L.bias                with the shift's part W δ in it
    L.channel_scale       float32, LET with the split folded in
    L.channel_shift       float32
    L.branch_down, L.branch_up            bfloat16 as the int16 of the same bits, of a low-rank
                                          branch beside it (float16 or float32 in older ones)
    L.input_scale, L.input_zero_point     of the input; for attention query_…, key_…,
                                          probability_…, value_…

Layers with the released numerics (manifest: `"numerics": "released"`) have the tensors that
`checkpoints/released/arithmetic.py` says. L is `NAME.parts.0` and `NAME.parts.1` where a layer runs
as a sum over parts of its input channels.

Everything else of the model (norms, layers left alone, the context) stands under its own name.
Floating-point tensors are float16 where that loses nothing, else float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from passionsr_cli.checkpoints.catalogue import Checkpoint
from passionsr_cli.checkpoints.manifest import CheckpointManifest, dump_manifest
from passionsr_cli.checkpoints.released.arithmetic import (
    ReleasedAttention,
    ReleasedLayer,
    build_released,
)
from passionsr_cli.errors import ModelError
from passionsr_cli.layers.convert import (
    Frozen,
    Quantized,
    apply,
    attention_shape,
    kind_of,
    quantized_layers,
)
from passionsr_cli.layers.frozen import FrozenAttention, FrozenLayer
from passionsr_cli.layers.products import QuantizedLayer, product_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.packing import pack, unpack
from passionsr_cli.quantization.schemes import (
    AttentionPlan,
    LayerPlan,
    LayerRecord,
    ReleasedAttentionPlan,
    ReleasedPlan,
    Scheme,
)
from passionsr_cli.store import CHECKPOINT, Store, shortest

Tensors = dict[str, Tensor]


def write_checkpoint(name: str, manifest: CheckpointManifest, model: OneStepModel) -> Checkpoint:
    """Write a frozen model as a checkpoint of the store."""
    entry = Store(CHECKPOINT).write(name, dump_manifest(manifest), pack_model(model))
    return Checkpoint(entry, manifest)


def pack_model(model: OneStepModel) -> Tensors:
    """The tensors of a frozen model as they are stored."""
    layers = quantized_layers(model)
    tensors: Tensors = {}
    for name, layer in layers.items():
        tensors |= {f"{name}.{key}": value for key, value in _packed(layer).items()}
    inside = tuple(
        f"{name}." if isinstance(layer, QuantizedLayer) else f"{name}.processor."
        for name, layer in layers.items()
    )
    for name, tensor in model.state_dict().items():
        if not name.startswith(inside):
            tensors[name] = shortest(tensor)
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _packed(layer: Quantized) -> Tensors:
    if isinstance(layer, (ReleasedLayer, ReleasedAttention)):
        return layer.packed()
    if isinstance(layer, FrozenAttention):
        tensors = _given(channel_scale=layer.channel_scale)
        for name, grid in layer.grids.items():
            tensors |= _grid_tensors(name, grid)
        return tensors
    assert isinstance(layer, FrozenLayer)
    tensors = _given(channel_scale=layer.channel_scale, channel_shift=layer.channel_shift)
    if layer.bias is not None:
        tensors["bias"] = shortest(layer.bias.detach())
    if layer.branch is not None:
        # numpy, which readers use, has no bfloat16.
        down, up = (factor.view(torch.int16) for factor in layer.branch)
        tensors |= {"branch_down": down, "branch_up": up}
    if layer.input_grid is not None:
        tensors |= _grid_tensors("input", layer.input_grid)
    weight, weight_grid = layer.stored_weight(), layer.weight_grid
    if weight_grid is None:
        tensors["float_weight"] = shortest(weight.detach())
        return tensors
    scheme = weight_grid.scheme
    tensors["weight"] = pack((weight - scheme.quant_min).cpu(), scheme.num_bits)
    return tensors | _grid_tensors("weight", weight_grid)


def _given(**tensors: Tensor | None) -> Tensors:
    return {name: tensor.detach() for name, tensor in tensors.items() if tensor is not None}


def _grid_tensors(name: str, grid: Grid) -> Tensors:
    tensors = {f"{name}_scale": grid.scale.detach().float()}
    if not grid.scheme.symmetric:
        tensors[f"{name}_zero_point"] = grid.zero_point.detach().to(torch.int16)
    return tensors


def load_checkpoint(checkpoint: Checkpoint) -> OneStepModel:
    """The calibrated model of a checkpoint, ready to run; needs nothing but the checkpoint."""
    manifest = checkpoint.manifest
    tensors = checkpoint.entry.tensors()
    # Weights come from the checkpoint alone: none is allocated or drawn before.
    with torch.device("meta"):
        model = OneStepModel(manifest.model.description)

    def build(layer: nn.Module, record: LayerRecord) -> Quantized:
        if kind_of(layer) != record.kind:
            raise ValueError(f"{record.name} is no {record.kind} of the model")
        # They leave `tensors`, as copies: each of these points into the file, all of which would
        # stay in memory for one of them.
        names = [key for key in tensors if key.rpartition(".")[0] == record.name]
        own = {name.removeprefix(f"{record.name}."): tensors.pop(name).clone() for name in names}
        if isinstance(record.plan, (ReleasedPlan, ReleasedAttentionPlan)):
            return build_released(layer, record.plan, own)
        return _restored(layer, record, own)

    try:
        apply(model, manifest.layers, build)
        rest = {name: tensors.pop(name).float().clone() for name in list(tensors)}
        _fill(model, rest)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{checkpoint.tensors_path} does not fit the manifest of '{checkpoint.name}': {error}"
        ) from error
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _restored(layer: nn.Module, record: LayerRecord, tensors: Tensors) -> Frozen:
    """The frozen layer, or attention processor, of these tensors in place of `layer`."""
    plan = record.plan
    if isinstance(plan, AttentionPlan):
        grids = {name: _grid(tensors, name, scheme) for name, scheme in plan.operands.items()}
        heads = attention_shape(layer)[1]
        return FrozenAttention(heads, tensors.get("channel_scale"), grids)
    assert isinstance(plan, LayerPlan)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    bias, weights, inputs = tensors.get("bias"), plan.weight, plan.activation
    return FrozenLayer(
        product_of(layer),
        weight=_weight(tensors, record.name, weights, tuple(layer.weight.shape)),
        weight_grid=None if weights is None else _grid(tensors, "weight", weights),
        bias=None if bias is None else bias.float(),
        channel_scale=tensors.get("channel_scale"),
        channel_shift=tensors.get("channel_shift"),
        input_grid=None if inputs is None else _grid(tensors, "input", inputs),
        branch=_branch(tensors) if plan.rank else None,
    )


def _weight(tensors: Tensors, name: str, scheme: Scheme | None, shape: tuple[int, ...]) -> Tensor:
    """The integers of a layer's weight (int16), or the weight where it has no grid."""
    if scheme is None:
        return tensors["float_weight"].float()
    expected = -(-math.prod(shape) * scheme.num_bits // 8)
    if tensors["weight"].numel() != expected:
        raise ValueError(f"{name}.weight has {tensors['weight'].numel()} bytes, not {expected}")
    codes = unpack(tensors.pop("weight"), scheme.num_bits, shape)
    return codes.to(torch.int16).add_(scheme.quant_min)


def _branch(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    down, up = (
        tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor.bfloat16()
        for tensor in (tensors["branch_down"], tensors["branch_up"])
    )
    return down, up


def _grid(tensors: Mapping[str, Tensor], name: str, scheme: Scheme) -> Grid:
    scale = tensors[f"{name}_scale"]
    zero_point = torch.zeros_like(scale)
    if not scheme.symmetric:
        zero_point = tensors[f"{name}_zero_point"].float()
    return Grid(scheme, scale, zero_point)


def _fill(model: OneStepModel, rest: Tensors) -> None:
    """Give what is not quantized its tensors; none may be missing or left over."""
    for name, tensor in rest.items():
        owner, _, key = name.rpartition(".")
        module: nn.Module = model.get_submodule(owner)
        if key in dict(module.named_buffers(recurse=False)):
            module.register_buffer(key, tensor)
        elif key in dict(module.named_parameters(recurse=False)):
            if module.get_parameter(key).shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}")
            module.register_parameter(key, nn.Parameter(tensor, requires_grad=False))
        else:
            raise KeyError(f"unknown tensor {name}")
    tensors = [*model.named_parameters(), *model.named_buffers()]
    missing = [name for name, tensor in tensors if tensor.is_meta]
    if missing:
        raise KeyError(f"{len(missing)} tensors are missing (first: {missing[0]})")
