"""Full precision on a GPU, compiled by torch once a run is long enough for that to pay.

Compiling takes up to minutes for each shape of tiles, and saves a part of each later tile. A shape
therefore runs as it is until it has missed as many seconds as compiling costs: then at most twice
the time of the better choice is spent, however long a run turns out to be. What compiling costs and
saves is measured there, kept for this GPU, model, precision and code, and said.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.system.devices import Device
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.memory import is_out_of_memory

# Seconds of computing before compiling is tried, where nothing is known of it yet.
PATIENCE = 60.0
# Of each, once all is warm.
RUNS = 3
# Fused operations round less often; what is further off than that is a fault.
LEAST_DECIBELS = 20.0
Function = Callable[..., Tensor]


class Verdict(BaseModel):
    """Verdict on compiling a shape: seconds of computing after which it pays (None: never)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pays_after: float | None
    reason: str


class Verdicts(BaseModel):
    """Verdicts on a model's shapes, as a file has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shapes: dict[str, Verdict] = {}


@dataclass
class _Shape:
    """Seconds that a shape has taken, those after which it is compiled, and what came of that."""

    patience: float
    spent: float = 0.0
    compiled: Function | None = None


def synchronized() -> float:
    """Seconds of a clock, once the GPU has done what it was told."""
    torch.cuda.synchronize()
    return time.perf_counter()


class CompilingExecutor(TorchExecutor):
    """A `TorchExecutor` on a GPU that compiles itself once that pays; `file` keeps its verdicts."""

    def __init__(
        self,
        model: OneStepModel,
        device: Device,
        file: Path,
        reporter: Reporter,
        clock: Callable[[], float] = synchronized,
    ) -> None:
        super().__init__(model, device, reporter=reporter)
        self._file, self._note, self._clock = file, reporter.note, clock
        self._shapes: dict[Hashable, _Shape] = {}

    def _call(self, function: Function, x: Tensor, *constants: Any) -> Tensor:
        name = " ".join(map(str, (function.__name__.strip("_"), *x.shape, *constants)))
        if name not in self._shapes:
            self._shapes[name] = _Shape(self._patience(name))
        shape = self._shapes[name]
        if shape.compiled is not None:
            return self._launched(shape.compiled, x, *constants)
        seconds, result = self._timed(function, x, *constants)
        shape.spent += seconds
        if shape.spent >= shape.patience:
            shape.patience = math.inf
            compiled: Function = torch.compile(function, dynamic=False)
            verdict, lasts = self._race(function, compiled, x, *constants)
            self._note(verdict.reason)
            if lasts:
                self._keep(name, verdict)
            shape.compiled = None if verdict.pays_after is None else compiled
        return result

    def _patience(self, name: str) -> float:
        known = _read(self._file).shapes.get(name)
        if known is None:
            return PATIENCE
        if known.pays_after is None:
            self._note(known.reason)
            return math.inf
        return known.pays_after

    def _timed(self, function: Function, x: Tensor, *constants: Any) -> tuple[float, Tensor]:
        started = self._clock()
        result = self._launched(function, x, *constants)
        return self._clock() - started, result

    def _race(
        self, function: Function, compiled: Function, x: Tensor, *constants: Any
    ) -> tuple[Verdict, bool]:
        """The verdict on a shape, and whether it holds for later runs, too."""
        try:
            compiling, _ = self._timed(compiled, x, *constants)
            pairs = [
                [self._timed(each, x, *constants) for each in (function, compiled)]
                for _ in range(1 + RUNS)
            ]
        except RuntimeError as error:
            reason = f"not compiled: it failed ({str(error).strip().partition(chr(10))[0]})"
            # Others may have had the memory.
            return Verdict(pays_after=None, reason=reason), not is_out_of_memory(error)
        (_, wanted), (_, found) = pairs[-1]
        # In the first one what is compiled is recorded.
        eager, fast = (median(pair[at][0] for pair in pairs[1:]) for at in (0, 1))
        return judge(eager, fast, compiling, _decibels(found, wanted)), True

    def _keep(self, name: str, verdict: Verdict) -> None:
        kept = Verdicts(shapes={**_read(self._file).shapes, name: verdict})
        with suppress(OSError), replace_atomically(self._file) as temporary:
            temporary.write_text(kept.model_dump_json(), encoding="utf-8")


def judge(eager: float, compiled: float, compiling: float, decibels: float) -> Verdict:
    """The verdict on seconds a tile as it is and compiled, on those of compiling, and on how near
    the results are."""
    if not decibels >= LEAST_DECIBELS:
        reason = f"not compiled: its result is {decibels:.1f} dB away, which is a fault"
        return Verdict(pays_after=None, reason=reason)
    times = f"{compiled:.4f} s a tile, {eager:.4f} s as it is"
    if compiled >= eager:
        return Verdict(pays_after=None, reason=f"not compiled: {times}")
    reason = f"compiled by torch in {compiling:.0f} s: {times}"
    return Verdict(pays_after=compiling * eager / (eager - compiled), reason=reason)


def _decibels(found: Tensor, wanted: Tensor) -> float:
    """10 log₁₀ of the variance that is wanted over the mean square of the error."""
    error = float((found.float() - wanted.float()).square().mean())
    return 10 * math.log10(max(float(wanted.float().var()), 1e-30) / max(error, 1e-30))


def _read(file: Path) -> Verdicts:
    try:
        return Verdicts.model_validate(read_json(file))
    except (OSError, ValueError):
        return Verdicts()
