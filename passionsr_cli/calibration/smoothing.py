"""Channel scales whose exponent is searched for each layer (SVDQuant, arXiv 2411.05007)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from passionsr_cli.calibration.losses import relative_error
from passionsr_cli.layers.convert import Learning, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.models.chain import Chain
from passionsr_cli.quantization.schemes import State

Read = Callable[[Sequence[int]], Tensor]


@torch.no_grad()
def search_exponents(
    chain: Chain,
    read: Read,
    layers: Mapping[str, Learning],
    exponents: Sequence[float],
    branches: bool,
) -> None:
    """Start the scales of each layer anew, with the exponent whose output is nearest to full
    precision's, of the first image: rounded between the extremes, beside its branch if
    `branches`.

    Layers have observed their channels, and none is quantized when the others are tried.
    """
    set_state(list(layers.values()), State.FLOAT)
    found = [
        layer
        for layer in layers.values()
        if isinstance(layer, LearningLayer) and layer.plan.channel_scale
    ]
    errors: dict[LearningLayer, list[float]] = {layer: [] for layer in found}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...], wanted: Tensor) -> None:
        assert isinstance(layer, LearningLayer)
        for exponent in exponents:
            _start(layer, exponent, branches)
            layer.state = State.FOLLOWING
            errors[layer].append(float(relative_error(layer.forward(*inputs), wanted)))
            layer.state = State.FLOAT

    hooks = [layer.register_forward_hook(measure) for layer in found]
    try:
        chain(read([0]))
    finally:
        for hook in hooks:
            hook.remove()
    for layer, of_each in errors.items():
        _start(layer, exponents[of_each.index(min(of_each))], branches)


def _start(layer: LearningLayer, exponent: float, branches: bool) -> None:
    if branches and layer.branch is not None:
        layer.branch.clear()
    layer.start_transform(exponent)
    if branches:
        layer.start_branch()
