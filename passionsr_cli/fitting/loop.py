"""The one optimisation loop: resumable, for training and calibration alike.

A stage is a list of objectives, each with its own optimizer, lowered in turn on every batch.
Batches depend on (seed, step) alone, so that a resumed run sees what an uninterrupted one saw.
"""

from __future__ import annotations

import copy
import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.errors import FitError
from passionsr_cli.progress import Reporter
from passionsr_cli.system.files import replace_atomically, write_memory

LOSS_EMA = 0.98
# A snapshot of the best state is at most this old when a run diverges.
BEST_EVERY_STEPS = 10
RATE_WINDOW_SECONDS = 20.0
# What a fit reports beside its losses, which are exponential moving averages.
LEARNING_RATE, STEPS_PER_SECOND = "lr", "steps/s"

Batch = dict[str, Tensor]


class Stateful(Protocol):
    """Anything whose state belongs in the saved run."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Objective:
    """A loss, the optimizer that lowers it, and the learning rate at each step.

    `parameters` are those that learn; those of the stage's other objectives are frozen while
    this loss is differentiated.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    loss: Callable[[Batch], Tensor]
    learning_rate: Callable[[int], float]
    gradient_clip: float = math.inf


@dataclass
class Fit:
    """One optimisation, from its first step or from wherever its file left it.

    `tracked` are the modules and other objects saved beside the optimizers. `after_step` is
    called after each step's updates (an EMA of the weights, say). A loss whose average grows to
    `divergence` times its lowest stops the stage, which then keeps its best state; `locate` says
    where in the model something went wrong.
    """

    name: str
    steps: int
    objectives: Sequence[Objective]
    tracked: Mapping[str, Stateful]
    accelerator: Accelerator
    file: Path
    save_every_seconds: float
    after_step: Callable[[int], None] = lambda step: None
    divergence: float = math.inf
    locate: Callable[[], str] = lambda: ""
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    lowest: float = math.inf
    best: dict[str, Any] | None = None

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Take up the state that `save` wrote."""
        self.step, self.losses = saved["step"], dict(saved["losses"])
        # Older files, and those of a best state, begin anew with these.
        self.lowest, self.best = saved.get("lowest", math.inf), saved.get("best")
        for name, item in self.tracked.items():
            item.load_state_dict(saved["tracked"][name])
        for objective in self.objectives:
            objective.optimizer.load_state_dict(saved["optimizers"][objective.name])
        # None where gradients were not scaled; older files say nothing of it.
        scaler = saved.get("scaler")
        if scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)

    def save(self) -> None:
        """Write the state; a kill meanwhile leaves the previous one."""
        self._write({**self._state(), "lowest": self.lowest, "best": self.best})

    def _state(self) -> dict[str, Any]:
        # Of gradients in fp16: what they are multiplied by, and how long that went well.
        scaler = self.accelerator.scaler
        return {
            "stage": self.name,
            "step": self.step,
            "losses": self.losses,
            "tracked": {name: item.state_dict() for name, item in self.tracked.items()},
            "optimizers": {item.name: item.optimizer.state_dict() for item in self.objectives},
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def _write(self, state: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            write_state(self.file, state)

    def run(self, batches: Iterable[Batch], reporter: Reporter) -> None:
        """Go on to the last step. `batches` starts at the current step.

        Ctrl-C finishes the step, saves and raises `KeyboardInterrupt`; a second one does not
        wait. A loss that is not finite raises `FitError`; the last saved state stays.
        """
        saved_at = time.monotonic()
        meter = _RateMeter()
        reporter.started(self.name, self.steps)
        if self.step:
            reporter.note(f"{self.name}: resumed at step {self.step}")
        with torch.enable_grad(), _interrupts_after_steps() as interruption:
            for batch in _until(interruption, batches):
                if self.step >= self.steps:
                    break
                rate = self._lower_all(batch)
                self.step += 1
                self.after_step(self.step)
                self._keep_best()
                speed = {LEARNING_RATE: rate, STEPS_PER_SECOND: meter.tick()}
                # Of minutes a step, none that was told is lost.
                if time.monotonic() - saved_at > self.save_every_seconds:
                    self.save()
                    saved_at = time.monotonic()
                reporter.step(self.name, self.step, {**self.losses, **speed})
                if interruption.is_set():
                    break
            self.save()
        if interruption.is_set():
            raise KeyboardInterrupt

    def _lower_all(self, batch: Batch) -> float:
        """One update for every objective; returns the first one's learning rate."""
        for objective in self.objectives:
            rate = objective.learning_rate(self.step)
            for group in objective.optimizer.param_groups:
                group["lr"] = rate * group.get("learning_rate_factor", 1.0)
            self._only_learns(objective)
            objective.optimizer.zero_grad(set_to_none=True)
            loss = objective.loss(batch)
            self._note(objective.name, float(loss.detach()))
            self.accelerator.backward(loss)
            if math.isfinite(objective.gradient_clip):
                # accelerate's own clipping would unscale what every earlier stage prepared, too.
                self.accelerator.unscale_gradients(objective.optimizer)
                norm = nn.utils.clip_grad_norm_(objective.parameters, objective.gradient_clip)
                # In fp16 such gradients are expected; their scaler skips the step.
                if self.accelerator.scaler is None and not math.isfinite(float(norm)):
                    self._stop(f"the gradient of the {objective.name} loss became {float(norm)}")
            objective.optimizer.step()
        return self.objectives[0].learning_rate(self.step)

    def _only_learns(self, active: Objective) -> None:
        for objective in self.objectives:
            for parameter in objective.parameters:
                parameter.requires_grad_(objective is active)

    def _note(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            self._stop(f"the {name} loss became {value}")
        before = self.losses.get(name, value)
        self.losses[name] = LOSS_EMA * before + (1 - LOSS_EMA) * value
        if self.losses[name] > self.divergence * self.lowest:
            self._stop(
                f"the {name} loss grew to {self.losses[name]:.3g}, from {self.lowest:.3g} at best"
            )

    def _keep_best(self) -> None:
        """Remember the state at the lowest loss, in case the run diverges from there."""
        if math.isinf(self.divergence):
            return
        loss = self.losses[self.objectives[0].name]
        if loss < self.lowest and (self.best is None or self.step % BEST_EVERY_STEPS == 0):
            self.lowest, self.best = loss, copy.deepcopy(self._state())

    def _stop(self, what: str) -> NoReturn:
        kept = "the state before it"
        if self.best is not None:
            self._write(self.best)
            kept = f"the best state, that of step {self.best['step']}"
        where = self.locate()
        raise FitError(
            f"{self.name}: {what} at step {self.step + 1}{f' ({where})' if where else ''}; "
            f"lower its learning rate. {self.file} keeps {kept}"
        )


def _until(interruption: threading.Event, batches: Iterable[Batch]) -> Iterator[Batch]:
    """`batches`; they end where whoever interrupts this process ended those that make them."""
    try:
        yield from batches
    except RuntimeError:
        if not interruption.is_set():
            raise


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write what `torch.load` reads, whole or not at all. Raises `OSError` as the system does."""
    # torch.save has no errors of its own for a full disk, so it gets memory to write to.
    content = io.BytesIO()
    torch.save(state, content)
    with replace_atomically(file) as temporary:
        write_memory(temporary, content)


def read_state(file: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Read the state that `write_state` wrote, onto a device; None where no run was saved."""
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    return state


@contextmanager
def _interrupts_after_steps() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into an event: a state saved in mid-step could not be resumed."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


class _RateMeter:
    """Steps per second over the last moments."""

    def __init__(self) -> None:
        self.times = [time.monotonic()]

    def tick(self) -> float:
        now = time.monotonic()
        self.times.append(now)
        while len(self.times) > 2 and now - self.times[0] > RATE_WINDOW_SECONDS:
            self.times.pop(0)
        return (len(self.times) - 1) / max(now - self.times[0], 1e-9)


def cosine(start: float, end: float, steps: int, warmup_steps: int = 0) -> Callable[[int], float]:
    """A learning rate that rises linearly over the warm-up and falls as half a cosine."""

    def at(step: int) -> float:
        if step < warmup_steps:
            return start * (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return end + (start - end) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return at


def milestones(
    start: float, steps: int, shares: Sequence[float], decay: float
) -> Callable[[int], float]:
    """A learning rate multiplied by `decay` after each of these shares of the steps."""

    def at(step: int) -> float:
        return start * decay ** sum(step >= share * steps for share in shares)

    return at
