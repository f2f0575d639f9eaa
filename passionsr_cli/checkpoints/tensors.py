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
from passionsr_cli.layers.attention import QuantizedAttention
from passionsr_cli.layers.convert import Quantized, apply, build_layer, quantized_layers
from passionsr_cli.layers.frozen import FrozenAttention, FrozenLayer
from passionsr_cli.layers.learning import QuantizedLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.packing import pack, unpack
from passionsr_cli.quantization.schemes import AttentionPlan, LayerRecord, Scheme
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
    if not isinstance(layer, QuantizedLayer):
        frozen_attention = layer.as_frozen()
        tensors = _given(channel_scale=frozen_attention.channel_scale)
        for name, grid in frozen_attention.grids.items():
            tensors |= _grid_tensors(name, grid)
        return tensors
    frozen = layer.as_frozen()
    tensors = _given(channel_scale=frozen.channel_scale, channel_shift=frozen.channel_shift)
    if frozen.bias is not None:
        tensors["bias"] = shortest(frozen.bias.detach())
    if frozen.branch is not None:
        # numpy, which readers use, has no bfloat16.
        down, up = (factor.view(torch.int16) for factor in frozen.branch)
        tensors |= {"branch_down": down, "branch_up": up}
    if frozen.input_grid is not None:
        tensors |= _grid_tensors("input", frozen.input_grid)
    if frozen.weight_grid is None:
        tensors["float_weight"] = shortest(frozen.weight.detach())
        return tensors
    scheme = frozen.weight_grid.scheme
    tensors["weight"] = pack((frozen.weight - scheme.quant_min).cpu(), scheme.num_bits)
    return tensors | _grid_tensors("weight", frozen.weight_grid)


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
        released = manifest.numerics == "released"
        apply(model, manifest.layers, build_released if released else build_layer)
    try:
        for record in manifest.layers:
            if record.plan is not None:
                _restore(model, record, tensors)
        rest = {name: tensor.float() for name, tensor in tensors.items()}
        _fill(model, rest)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{checkpoint.tensors_path} does not fit the manifest of '{checkpoint.name}': {error}"
        ) from error
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _restore(model: OneStepModel, record: LayerRecord, tensors: Tensors) -> None:
    """Give one layer its tensors; they leave `tensors`."""
    own = {
        key.removeprefix(f"{record.name}."): tensors.pop(key)
        for key in [key for key in tensors if key.rpartition(".")[0] == record.name]
    }
    layer = model.get_submodule(record.name)
    if isinstance(record.plan, AttentionPlan):
        layer = layer.get_submodule("processor")
        assert isinstance(layer, QuantizedAttention)
        if isinstance(layer, ReleasedAttention):
            layer.take(own)
            return
        grids = {
            name: _grid(own, name, scheme)
            for name, scheme in (
                ("query", layer.plan.query_key),
                ("key", layer.plan.query_key),
                ("probability", layer.plan.activation),
                ("value", layer.plan.activation),
            )
        }
        layer.adopt(FrozenAttention(own.get("channel_scale"), grids))
        return
    assert isinstance(layer, QuantizedLayer)
    if isinstance(layer, ReleasedLayer):
        layer.take(own)
        return
    shape = tuple(layer.weight.shape)
    if record.weight is not None:
        expected = -(-math.prod(shape) * record.weight.num_bits // 8)
        if own["weight"].numel() != expected:
            raise ValueError(
                f"{record.name}.weight has {own['weight'].numel()} bytes, not {expected}"
            )
        codes = unpack(own["weight"], record.weight.num_bits, shape)
        weight = codes.to(torch.int16) + record.weight.quant_min
    else:
        weight = own["float_weight"].float()
    bias = own.get("bias")
    layer.adopt(
        FrozenLayer(
            weight=weight,
            weight_grid=None if record.weight is None else _grid(own, "weight", record.weight),
            bias=None if bias is None else bias.float(),
            channel_scale=own.get("channel_scale"),
            channel_shift=own.get("channel_shift"),
            input_grid=None
            if record.activation is None
            else _grid(own, "input", record.activation),
            branch=_branch(own) if layer.plan.rank else None,
        )
    )


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
