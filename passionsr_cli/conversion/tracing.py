"""A component of a model as a converter should see it: each quantized layer is one operation.

A converter that traced through a quantized layer would find arithmetic on floats. Here it finds
one operation with a number instead, and builds what its own format has for such a layer.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.frozen import FrozenAttention, FrozenLayer
from passionsr_cli.models.components import DECODER, ENCODER, UNET, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.quantizer import FrozenQuantizer

OPERATION = "passionsr::module"

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Operation:
    """A module that becomes one node: a quantized layer, or a quantizer of an attention.

    `constant` is its output if that does not depend on the image.
    """

    name: str
    module: FrozenLayer | FrozenQuantizer
    constant: Tensor | None


@dataclass(frozen=True)
class Component:
    """A component of a frozen or a full-precision model, ready to be traced.

    `part` maps one tensor to another like `example`: the encoder's images (B, 3, H, W) in [0, 1]
    to z_L, the UNet's z_L to ε (with a dial to both ε, not mixed), the decoder's z_H to the image.
    `attentions` are the names of the quantized attentions.
    """

    part: nn.Module
    example: Tensor
    operations: tuple[Operation, ...]
    attentions: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the quantized convolutions and linear layers."""
        return tuple(o.name for o in self.operations if isinstance(o.module, FrozenLayer))

    @property
    def folded(self) -> tuple[str, ...]:
        """Those of them that do not depend on the image and become constants."""
        constant = {o.name for o in self.operations if o.constant is not None}
        return tuple(name for name in self.layers if name in constant)


def component_of_model(model: OneStepModel, component: str) -> Component:
    """Take one component out of a model; the model itself stays as it is."""
    part = _Part(_alone(model.requires_grad_(False), component), component).eval()
    example = _example(model, component)
    modules: dict[str, FrozenLayer | FrozenQuantizer] = {}
    attentions = []
    for name, layer in quantized_layers(model).items():
        if component_of(name) != component:
            continue
        if isinstance(layer, FrozenLayer):
            modules[name] = layer
        elif isinstance(layer, FrozenAttention):
            attentions.append(name)
            for place, quantizer in layer.quantizers().items():
                modules[f"{name}.processor.{place}"] = quantizer
        else:
            raise ConfigError(f"{name} computes what torch alone can: it has no fixed grids")
    constants = _constant_outputs(part, list(modules.values()), example)
    operations = [Operation(name, mod, constants.get(mod)) for name, mod in modules.items()]
    return Component(part, example, tuple(operations), tuple(attentions))


@contextmanager
def traced_as_operations(component: Component) -> Iterator[nn.Module]:
    """The component with `passionsr::module(x, number)` in place of each of its operations.

    Only here do these nodes mean anything; their number is the operation's place. One thread at a
    time is here: all conversions also silence warnings, which are the whole process's.
    """
    root: nn.Module = component.part.get_submodule("model")
    with _tracing:
        try:
            for number, operation in enumerate(component.operations):
                root.set_submodule(operation.name, _Node(number))
            _traced.extend(component.operations)
            with torch.no_grad():
                yield component.part
        finally:
            _traced.clear()
            for operation in component.operations:
                root.set_submodule(operation.name, operation.module)


class _Part(nn.Module):
    def __init__(self, model: OneStepModel, component: str) -> None:
        super().__init__()
        self.model, self.component = model, component

    def forward(self, x: Tensor) -> Tensor:
        model = self.model
        steps = {ENCODER: model.encode, UNET: model.predict_heads, DECODER: model.decode}
        return steps[self.component](x)


# What each component does without. The VAE itself stays for its settings.
_UNUSED = {
    ENCODER: ("unet", "vae.decoder", "vae.post_quant_conv"),
    UNET: ("vae",),
    DECODER: ("unet", "vae.encoder", "vae.quant_conv"),
}


def _alone(model: OneStepModel, component: str) -> OneStepModel:
    """The same modules without those a component does not use: converters look at every weight."""
    alone = _shallow_copy(model)
    if component != UNET:
        alone.vae = _shallow_copy(model.vae)
    # An encoder that only folds pixels is none of the VAE's.
    no_encoder = component == ENCODER and model.vae.encoder is None
    for name in ("unet", "vae") if no_encoder else _UNUSED[component]:
        holder, _, child = name.rpartition(".")
        alone.get_submodule(holder)._modules[child] = None
    return alone


def _shallow_copy(module: M) -> M:
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


def _example(model: OneStepModel, component: str) -> Tensor:
    """An input of the smallest size that leaves more than one pixel everywhere."""
    description = model.description
    side = 2 * description.size_multiple_px
    if component == ENCODER:
        return torch.rand(1, 3, side, side)
    latent = side // description.latent_factor
    values = {UNET: description.unet["in_channels"], DECODER: description.vae["latent_channels"]}
    return torch.rand(1, int(values[component]), latent, latent)


def _constant_outputs(
    part: nn.Module, modules: Sequence[nn.Module], example: Tensor
) -> dict[nn.Module, Tensor]:
    """The modules whose output does not depend on the image, and that output.

    Those on the way of the timestep and of the context, which a one-step model has but one of.
    """
    constants: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        # Only the image wants a gradient, so it did not reach an output that has none.
        if not output.requires_grad:
            constants[module] = output

    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        with torch.enable_grad():
            part(example.clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    return constants


_tracing = threading.Lock()
_traced: list[Operation] = []


class _Node(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.ops.passionsr.module(x, self.number)
        return result


@torch.library.custom_op(OPERATION, mutates_args=())
def _operation(x: Tensor, number: int) -> Tensor:
    result: Tensor = _like_output(x, number)
    return result


@_operation.register_fake
def _like_output(x: Tensor, number: int) -> Tensor:
    """A tensor of the right shape: while tracing, nobody looks at values."""
    operation = _traced[number]
    if operation.constant is not None:
        return x.new_zeros(operation.constant.shape)
    if isinstance(operation.module, FrozenQuantizer):
        return x.clone()
    weight = torch.empty_like(operation.module.weight, device="meta")
    return x.new_zeros(operation.module.product(x.to("meta"), weight, None).shape)
