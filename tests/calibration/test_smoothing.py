from __future__ import annotations

import torch
from torch import Tensor

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.calibration.smoothing import search_exponents
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.layers.convert import Learning, learning_layers, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import Branches, LayerDesign, Transformation
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import State

EXPONENTS = (0.0, 0.5, 1.0)


def _observed(model: OneStepModel, x: Tensor, rank: int) -> dict[str, Learning]:
    design = LayerDesign(Transformation(channel_scale=True), Branches({"linear": rank}))
    quantize_model(model, CalibrationSettings(unet="w3a3", vae="fp"), design)
    model.requires_grad_(False)
    layers = learning_layers(model)
    set_state(list(layers.values()), State.OBSERVING)
    Chain(model, ("unet",))(x)
    for layer in layers.values():
        layer.start_transform(0.5)
    return layers


def _error(layer: LearningLayer, x: Tensor, exponent: float) -> float:
    """What this exponent makes of one input, from the equations: λ, its branch, bounds from the
    extremes of X/λ and of what is left of λ ⊙ W."""
    rows, weight = x.flatten(0, -2).double(), layer.weight.double()
    scale = (rows.abs().amax(0) / weight.abs().amax(0)) ** exponent
    u, s, v = torch.linalg.svd(weight * scale, full_matrices=False)
    branch = (u[:, :2] * s[:2]) @ v[:2] / scale

    def rounded(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        step = (upper.clamp_min(0) - lower.clamp_max(0)) / 7
        zero = (-lower.clamp_max(0) / step).round()
        return ((values / step).round().clamp(-zero, 7 - zero)) * step

    moved, left = rows / scale, (weight - branch) * scale
    inputs = rounded(moved, moved.amin(), moved.amax())
    weights = rounded(left, left.amin(1, keepdim=True), left.amax(1, keepdim=True))
    found = inputs @ weights.t() + rows @ branch.t()
    wanted = rows @ weight.t()
    return float((found - wanted).square().sum() / (wanted + layer.bias).square().sum())


def test_each_layer_takes_the_exponent_that_suits_it(tiny_model: OneStepModel) -> None:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    x[:, 0] *= 20
    names = [f"unet.{part}.attentions.0.proj_in" for part in ("mid_block", "down_blocks.1")]
    names += ["unet.up_blocks.0.attentions.1.proj_out"]
    # Channels of very different sizes, in one way or another.
    for name in names:
        tiny_model.get_submodule(name).weight.data[:, ::3] *= 30  # type: ignore[operator, union-attr]
    layers, chain = _observed(tiny_model, x, 2), Chain(tiny_model, ("unet",))
    seen: dict[str, Tensor] = {}
    hooks = [
        tiny_model.get_submodule(name).register_forward_pre_hook(
            lambda layer, inputs, name=name: seen.__setitem__(name, inputs[0])
        )
        for name in names
    ]
    search_exponents(chain, lambda numbers: x, layers, EXPONENTS, branches=True)
    for hook in hooks:
        hook.remove()
    for name in names:
        layer = layers[name]
        assert isinstance(layer, LearningLayer)
        assert layer.transform is not None
        errors = [_error(layer, seen[name], exponent) for exponent in EXPONENTS]
        best = EXPONENTS[errors.index(min(errors))]
        ratio = layer.channel_observer.bounds()
        largest = torch.maximum(-ratio[0], ratio[1])
        wanted = (largest / layer.weight.abs().amax(0)) ** best
        torch.testing.assert_close(layer.transform.scale(), wanted)
        # Its branch goes with it.
        assert layer.branch is not None
        product = layer.branch.product().double()
        u, s, v = torch.linalg.svd(layer.weight.double() * wanted)
        torch.testing.assert_close(product * wanted, (u[:, :2] * s[:2]) @ v[:2], atol=1e-4, rtol=0)
    assert {layer.state for layer in layers.values()} == {State.FLOAT}


def test_one_candidate_is_what_a_set_exponent_gives(tiny_model: OneStepModel) -> None:
    x = torch.randn(1, 4, 8, 8)
    layers = _observed(tiny_model, x, 0)
    layer = layers["unet.conv_in"]
    assert isinstance(layer, LearningLayer)
    assert layer.transform is not None
    before = layer.transform.scale().clone()
    search_exponents(Chain(tiny_model, ("unet",)), lambda n: x, layers, (0.5,), branches=False)
    torch.testing.assert_close(layer.transform.scale(), before)
    search_exponents(Chain(tiny_model, ("unet",)), lambda n: x, layers, (0.0,), branches=False)
    assert layer.transform.scale().eq(1).all()
