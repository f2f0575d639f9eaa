"""Roundings that are decided from what reaches each layer (GPTQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from passionsr_cli.calibration.passes import run_until
from passionsr_cli.layers.convert import Learning, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.rows import decide_rounding, input_rows
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.modules import MODULE_KINDS, modules_of
from passionsr_cli.progress import Reporter
from passionsr_cli.quantization.schemes import State

# Places of all images together whose inputs are kept of each layer of a module.
ROWS = 8192

Read = Callable[[Sequence[int]], Tensor]


@torch.no_grad()
def decide_roundings(
    chain: Chain,
    read: Read,
    layers: Mapping[str, Learning],
    count: int,
    task: str,
    reporter: Reporter,
) -> None:
    """Round the weights of a chain's layers, module by module in running order.

    Each sees what those before it make once they are quantized, as they will be at work. Memory
    holds the inputs of one module's layers.
    """
    set_state(list(layers.values()), State.FLOAT)
    modules = modules_of(chain.model, list(layers), MODULE_KINDS)
    reporter.started(task, len(modules))
    for number, module in enumerate(modules):
        members = [layers[name] for name in module.layers]
        weighted = [layer for layer in members if isinstance(layer, LearningLayer)]
        rows = _rows(chain, chain.model.get_submodule(module.name), weighted, read, count)
        for layer in weighted:
            decide_rounding(layer, torch.cat(rows.pop(layer)))
        set_state(members, State.QUANTIZING)
        reporter.step(task, number + 1)


def _rows(
    chain: Chain, block: nn.Module, layers: Sequence[LearningLayer], read: Read, count: int
) -> dict[LearningLayer, list[Tensor]]:
    """Rows of what each of a block's layers multiplies, as many of each image."""
    found: dict[LearningLayer, list[Tensor]] = {layer: [] for layer in layers}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, LearningLayer)
        found[layer].append(input_rows(layer, inputs[0], max(1, ROWS // count)))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        for number in range(count):
            run_until(chain, read([number]), block)
    finally:
        for hook in hooks:
            hook.remove()
    return found
