"""The modules a model is calibrated by: blocks of layers, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from passionsr_cli.models.components import component_of

if TYPE_CHECKING:
    from torch import nn

    from passionsr_cli.models.one_step import OneStepModel

# A residual block; a transformer (with its projections) or the attention of a VAE; a down- or
# upsampler. Layers outside all of these are modules of their own.
ModuleKind = Literal["resnet", "transformer", "sampler"]
MODULE_KINDS: tuple[ModuleKind, ...] = ("resnet", "transformer", "sampler")


@dataclass(frozen=True)
class Module:
    """A block with layers of a component. Its output is one tensor (or a tuple of one)."""

    name: str
    component: str
    layers: tuple[str, ...]


def modules_of(
    model: OneStepModel, layers: Sequence[str], kinds: Sequence[ModuleKind]
) -> list[Module]:
    """The modules that hold these layers, in the order in which they run.

    `layers` are names of submodules (an attention's by its own name); those outside any module
    of these kinds, and those of kinds left out, stand alone.
    """
    blocks = [name for name, block in model.named_modules() if isinstance(block, _types(kinds))]
    outermost = [name for name in blocks if not any(name.startswith(f"{b}.") for b in blocks)]
    owned: dict[str, list[str]] = {}
    for layer in layers:
        owner = next((b for b in outermost if layer == b or layer.startswith(f"{b}.")), layer)
        owned.setdefault(owner, []).append(layer)
    return [
        Module(name, component_of(f"{name}."), tuple(owned[name]))
        for name in _in_running_order(model, list(owned))
    ]


def _types(kinds: Sequence[ModuleKind]) -> tuple[type[nn.Module], ...]:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel
    from diffusers.models.upsampling import Upsample2D

    types = {
        "resnet": (ResnetBlock2D,),
        "transformer": (Transformer2DModel, Attention),
        "sampler": (Downsample2D, Upsample2D),
    }
    return tuple(kind for name in kinds for kind in types[name])


def _in_running_order(model: OneStepModel, names: Sequence[str]) -> list[str]:
    import torch

    order: list[str] = []
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: order.append(name)
        )
        for name in names
    ]
    side = 2 * model.description.size_multiple_px
    device = model.context.device
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, side, side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(order))
