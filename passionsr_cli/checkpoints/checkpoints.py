"""Checkpoints: packed integers, grids and transformations, and a manifest that says it all.

Tensors of a layer L, as far as it has them:

    L.weight              the integers less quant_min, packed to their bits (`packing.pack`)
    L.weight_scale        float32, one per output channel or one
    L.weight_zero_point   int16, if asymmetric
    L.float_weight        s ⊙ W where weights stay in floating point
    L.bias                with the shift's part W δ in it
    L.channel_scale       float32, LET with the split folded in
    L.channel_shift       float32
    L.branch_down, L.branch_up            bfloat16's numbers, of a low-rank branch beside it
    L.input_scale, L.input_zero_point     of the input; for attention query_…, key_…,
                                          probability_…, value_…

Layers with the released numerics (manifest: `"numerics": "released"`) have the tensors that
`quantization/released.py` says. L is `NAME.parts.0` and `NAME.parts.1` where a layer runs as a sum
over parts of its input channels.

Everything else of the model (norms, layers left alone, the context) stands under its own name.
Floating-point tensors are float16 where that loses nothing, else float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ModelError, StoreError
from passionsr_cli.models import sources
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid, Scheme
from passionsr_cli.quantization.attention import QuantizedAttention
from passionsr_cli.quantization.convert import (
    LayerRow,
    Quantized,
    apply,
    quantized_layers,
    row_from,
)
from passionsr_cli.quantization.layers import QuantizedLayer
from passionsr_cli.quantization.packing import pack, unpack
from passionsr_cli.quantization.plans import AttentionPlan, FrozenAttention, FrozenLayer
from passionsr_cli.quantization.released import ReleasedAttention, ReleasedLayer
from passionsr_cli.registry import ModelDescription
from passionsr_cli.store import Entry, Store, read_entry, shortest

KIND = "checkpoint"
Tensors = dict[str, Tensor]


def find(name: str) -> Entry:
    """The checkpoint of this name, or in this folder."""
    store = Store(KIND)
    if name in store.names():
        return store.read(name)
    if Path(name).is_dir():
        return read_entry(Path(name), KIND)
    known = ", ".join(store.names()) or "none yet; `passionsr calibrate --bits w8a8` makes one"
    raise StoreError(f"no checkpoint named '{name}'; there are: {known}")


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
        down, up = (shortest(factor.float()) for factor in frozen.branch)
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


def describe(entry: Entry) -> tuple[ModelDescription, list[LayerRow]]:
    """The model a checkpoint is of, and what became of each of its layers."""
    try:
        description = ModelDescription.model_validate(entry.manifest["model"]["description"])
        return description, [row_from(row) for row in entry.manifest["layers"]]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the manifest of '{entry.name}' is damaged: {error!r}") from error


def load(entry: Entry) -> OneStepModel:
    """The calibrated model of a checkpoint, ready to run; needs nothing but the checkpoint."""
    description, rows = describe(entry)
    tensors = entry.tensors()
    # Weights come from the checkpoint alone: none is allocated or drawn before.
    with torch.device("meta"):
        model = OneStepModel(description)
        apply(model, rows)
    try:
        for row in rows:
            if row.plan is not None:
                _restore(model, row, tensors)
        rest = {name: tensor.float() for name, tensor in tensors.items()}
        _fill(model, rest)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{entry.tensors_path} does not fit the manifest of '{entry.name}': {error}"
        ) from error
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def check_origin(entry: Entry, model_name: str) -> None:
    """Refuse a checkpoint unless it was made from exactly this model."""
    known = sources.find(model_name)
    origin = entry.manifest["model"]
    if known.folder is None or sources.checksum(known) != origin["sha256"]:
        raise ModelError(
            f"checkpoint '{entry.name}' was made from '{origin['name']}' with weights "
            f"{origin['sha256'][:12]}…, not from this '{model_name}'; leave out --model, or "
            "calibrate that model"
        )


def _restore(model: OneStepModel, row: LayerRow, tensors: Tensors) -> None:
    """Give one layer its tensors; they leave `tensors`."""
    own = {
        key.removeprefix(f"{row.name}."): tensors.pop(key)
        for key in [key for key in tensors if key.rpartition(".")[0] == row.name]
    }
    layer = model.get_submodule(row.name)
    if isinstance(row.plan, AttentionPlan):
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
    if row.weight is not None:
        expected = -(-math.prod(shape) * row.weight.num_bits // 8)
        if own["weight"].numel() != expected:
            raise ValueError(f"{row.name}.weight has {own['weight'].numel()} bytes, not {expected}")
        codes = unpack(own["weight"], row.weight.num_bits, shape)
        weight = codes.to(torch.int16) + row.weight.quant_min
    else:
        weight = own["float_weight"].float()
    bias = own.get("bias")
    layer.adopt(
        FrozenLayer(
            weight=weight,
            weight_grid=None if row.weight is None else _grid(own, "weight", row.weight),
            bias=None if bias is None else bias.float(),
            channel_scale=own.get("channel_scale"),
            channel_shift=own.get("channel_shift"),
            input_grid=None if row.activation is None else _grid(own, "input", row.activation),
            branch=_branch(own) if layer.plan.rank else None,
        )
    )


def _branch(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return tensors["branch_down"].bfloat16(), tensors["branch_up"].bfloat16()


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
