"""Quantization sensitivity: what rounding one tensor, at one width, costs in the image.

For a layer whose output moves by δ the image moves by J δ, J being the Jacobian of the image with
respect to that output. With v of independent normal values, E (v·J δ)² = ‖J δ‖², and v·J δ is the
inner product of δ with Jᵀv, which one backward pass gives for all layers at once. So a few passes
measure every tensor of a model at every width, where rounding each of them alone would take a pass
each. It is exact to first order in δ.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from passionsr_cli.layers.convert import Learning, build_layer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.learning_attention import LearningAttention
from passionsr_cli.methods.stages import StartBranches, Starts, StartTransform
from passionsr_cli.progress import Reporter
from passionsr_cli.quantization.quantizer import quantizer_on
from passionsr_cli.quantization.schemes import AttentionPlan, LayerPlan, Plan, Scheme, State

TASK = "sensitivity"
# Directions v for each image.
PROBES = 6

Side = Literal["weight", "activation"]
# A tensor of a layer, its bits, and the rank of the branch beside it. The four operands of an
# attention are one tensor.
Rounded = tuple[Side, int, int]
Errors = dict[Rounded, float]


@dataclass(frozen=True)
class Candidates:
    """The plans that a layer may have, one for each rank of its branch, and the grids that its
    weight or its activation may have in each."""

    plans: Sequence[Plan]
    schemes: Mapping[tuple[Side, int], Scheme]


def measure_sensitivity(
    model: nn.Module,
    candidates: Mapping[str, Candidates],
    starts: Starts,
    images: Sequence[Tensor],
    reporter: Reporter,
) -> dict[str, Errors]:
    """The mean squared error of the image by layer and rounded tensor, all else in full precision.

    `model` maps each of `images`, (1, 3, H, W), to its result. Layers are those of `candidates` by
    name, in full precision; branches, channel scales and then bounds start as `starts` has them,
    from what reaches the layer in each image.
    """
    layers = {name: model.get_submodule(name) for name in candidates}
    totals = {name: defaultdict[Rounded, float](float) for name in candidates}
    generator = torch.Generator().manual_seed(0)
    reporter.started(TASK, len(images))
    for number, x in enumerate(images):
        gradients = _gradients(model, layers, x, generator)

        def note(name: str, rounded: Rounded, deviation: Tensor) -> None:
            along = gradients[name] @ deviation.flatten()  # noqa: B023
            totals[name][rounded] += float(along.square().mean()) / len(images)

        _pass_deviations(model, layers, candidates, starts, x, note)
        reporter.step(TASK, number + 1)
    return {name: dict(errors) for name, errors in totals.items()}


def _gradients(
    model: nn.Module, layers: Mapping[str, nn.Module], x: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Jᵀv at each layer's output, (directions, values), so scaled that squares are of the mean
    squared error."""
    leaves: dict[str, Tensor] = {}

    def add_leaf(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            leaves[name] = torch.zeros_like(output, requires_grad=True)
            return output + leaves[name]

        return hook

    hooks = [layer.register_forward_hook(add_leaf(name)) for name, layer in layers.items()]
    try:
        with torch.enable_grad():
            image: Tensor = model(x)
    finally:
        for handle in hooks:
            handle.remove()
    found = []
    for _ in range(PROBES):
        direction = torch.randn(image.shape, generator=generator).to(image) / image.numel() ** 0.5
        found.append(
            torch.autograd.grad(image, list(leaves.values()), direction, retain_graph=True)
        )
    return {
        name: torch.stack([gradients[place].flatten() for gradients in found])
        for place, name in enumerate(leaves)
    }


@torch.no_grad()
def _pass_deviations(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    candidates: Mapping[str, Candidates],
    starts: Starts,
    x: Tensor,
    note: Callable[[str, Rounded, Tensor], None],
) -> None:
    """Pass an image through the model and note how far each candidate moves its layer's output."""
    inside = False

    def measure(name: str) -> Callable[[nn.Module, Any, Any, Tensor], None]:
        def hook(layer: nn.Module, inputs: Any, named: Any, output: Tensor) -> None:
            nonlocal inside
            # An attention's candidates run its projections, whose hooks would measure again.
            if inside:
                return
            inside = True
            for rounded, result in _results(layer, candidates[name], starts, inputs, named):
                note(name, rounded, result - output)
            inside = False

        return hook

    hooks = [
        layer.register_forward_hook(measure(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        model(x)
    finally:
        for handle in hooks:
            handle.remove()


def _results(
    layer: nn.Module,
    candidates: Candidates,
    starts: Starts,
    inputs: tuple[Tensor, ...],
    named: Mapping[str, Any],
) -> Iterator[tuple[Rounded, Tensor]]:
    """Outputs of a layer with one of its tensors rounded, for each candidate."""
    for plan in candidates.plans:
        if isinstance(plan, AttentionPlan):
            call = (layer, inputs[0], named.get("encoder_hidden_states"))
            yield from _attention_results(plan, candidates.schemes, starts, call)
        else:
            yield from _layer_results(plan, candidates.schemes, starts, layer, inputs[0])


def _attention_results(
    plan: AttentionPlan,
    schemes: Mapping[tuple[Side, int], Scheme],
    starts: Starts,
    call: tuple[Any, ...],
) -> Iterator[tuple[Rounded, Tensor]]:
    for (side, bits), scheme in schemes.items():
        attention = build_layer(call[0], replace(plan, activation=scheme))
        assert isinstance(attention, LearningAttention)
        _observe(attention, starts, lambda made=attention: made.forward(*call))  # type: ignore[misc]
        attention.start_bounds()
        attention.state = State.QUANTIZING
        yield (side, bits, 0), attention.forward(*call)


def _layer_results(
    plan: LayerPlan,
    schemes: Mapping[tuple[Side, int], Scheme],
    starts: Starts,
    layer: nn.Module,
    x: Tensor,
) -> Iterator[tuple[Rounded, Tensor]]:
    plan = replace(plan, fitting=replace(plan.fitting, rounding="nearest"))
    observed = build_layer(layer, plan)
    assert isinstance(observed, LearningLayer)
    _observe(observed, starts, lambda: observed(x))
    for (side, bits), scheme in schemes.items():
        weight, activation = (scheme, None) if side == "weight" else (None, scheme)
        made = _on_grids(observed, replace(plan, weight=weight, activation=activation))
        yield (side, bits, plan.rank), made(x)


def _observe(layer: Learning, starts: Starts, run: Callable[[], Tensor]) -> None:
    """Note the ranges of a layer's input through its transformation and beside its branch, as a
    method starts these."""
    layer.state = State.OBSERVING
    for start in starts:
        if isinstance(start, StartBranches):
            layer.start_branch()
        elif isinstance(start, StartTransform):
            run()
            layer.start_transform(start.exponents[len(start.exponents) // 2])
    for observer in layer.observers().values():
        observer.forget()
    run()


def _on_grids(observed: LearningLayer, plan: LayerPlan) -> LearningLayer:
    """A layer with the grids of another plan, which shares all else with the observed one."""
    layer = copy.copy(observed)
    layer._modules = dict(observed._modules)
    layer.plan = plan
    layer.weight_quantizer = quantizer_on(plan.weight, observed.weight.shape[0], False)
    layer.input_quantizer = quantizer_on(plan.activation, 0, False)
    layer.to(observed.weight.device)
    if layer.merged is not None:
        # The last candidate's, where the weight is not rounded now.
        layer.merged.clear()
    layer.start_bounds()
    layer.state = State.QUANTIZING
    return layer
