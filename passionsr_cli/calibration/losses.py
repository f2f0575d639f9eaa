"""Loss of a stage's fit, computed from one run of its chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from passionsr_cli.calibration.passes import run_until
from passionsr_cli.calibration.perceptual import Distance
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.layers.convert import Learning, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import Losses
from passionsr_cli.models.chain import Chain
from passionsr_cli.quantization.rounding import AdaptiveRounding
from passionsr_cli.quantization.schemes import State

# β of the rounding's regularizer falls from the first to the second, after a share of the steps
# in which nothing is decided yet (AdaRound, arXiv 2004.10568, section 5).
ROUNDING_EXPONENTS = (20.0, 2.0)
FREE_SHARE = 0.2


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """‖output − target‖² / ‖target‖²: the same scale for latents and images."""
    return (output.float() - target).square().mean() / target.square().mean().clamp_min(1e-12)


class StageLoss:
    """The loss of a chain with these quantized layers.

    Batches hold `x`, the chain's input, `target`, and with a module loss `teacher_x`, what full
    precision has in place of x.
    """

    def __init__(
        self,
        losses: Losses,
        chain: Chain,
        layers: Mapping[str, Learning],
        perceptual: Distance | None,
    ) -> None:
        self.losses, self.chain, self.layers = losses, chain, dict(layers)
        self.perceptual = perceptual
        self.reads_output = losses.output > 0 or losses.perceptual > 0

    def __call__(
        self, run: nn.Module, batch: Batch, module: nn.Module | None, share: float
    ) -> Tensor:
        """The loss while this module is in turn, if any, after this share of its steps.

        `run` is the chain, or what wraps it.
        """
        total = batch["x"].new_zeros(())
        if self.losses.module and module is not None:
            wanted = self._wanted(batch["teacher_x"], module)
            with _recorded(module) as found:
                output = self._until_needed(run, batch["x"], module)
            total = total + self.losses.module * relative_error(found[0], wanted)
        else:
            output = run(batch["x"])
        if output is not None and self.reads_output:
            total = total + self.of_output(output, batch["target"])
        if self.losses.rounding and share > FREE_SHARE:
            penalty = self.losses.rounding * self._undecided(share)
            total = total + total.detach() * penalty
        return total

    def of_output(self, output: Tensor, target: Tensor) -> Tensor:
        """The losses of what the chain makes; its relative error where there is none."""
        total = target.new_zeros(())
        if self.losses.output or not self.reads_output:
            total = total + (self.losses.output or 1) * relative_error(output, target)
        if self.losses.perceptual and self.perceptual is not None:
            total = total + self.losses.perceptual * self.perceptual(output, target)
        return total

    @torch.no_grad()
    def _wanted(self, x: Tensor, module: nn.Module) -> Tensor:
        """Output of the module in full precision."""
        states = {name: layer.state for name, layer in self.layers.items()}
        set_state(list(self.layers.values()), State.FLOAT)
        try:
            with _recorded(module) as found:
                run_until(self.chain, x, module)
        finally:
            for name, layer in self.layers.items():
                layer.state = states[name]
        return found[0]

    def _until_needed(self, run: nn.Module, x: Tensor, module: nn.Module) -> Tensor | None:
        if self.reads_output or run is not self.chain:
            result: Tensor = run(x)
            return result
        run_until(run, x, module)
        return None

    def _undecided(self, share: float) -> Tensor:
        first, last = ROUNDING_EXPONENTS
        exponent = last + (first - last) * (1 - (share - FREE_SHARE) / (1 - FREE_SHARE))
        roundings = [
            layer.rounding
            for layer in self.layers.values()
            if isinstance(layer, LearningLayer)
            and isinstance(layer.rounding, AdaptiveRounding)
            and layer.rounding.logit.requires_grad
        ]
        # Modules may be attentions alone, without weights.
        undecided = [rounding.undecided(exponent) for rounding in roundings]
        return torch.stack(undecided).mean() if undecided else torch.zeros(())


@contextmanager
def _recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list that gets what this module makes."""
    found: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        found.append(_tensor(output))

    hook = module.register_forward_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def _tensor(output: object) -> Tensor:
    """The one tensor in what a module of diffusers returns."""
    if isinstance(output, Tensor):
        return output
    found = output[0]  # type: ignore[index]
    assert isinstance(found, Tensor)
    return found
