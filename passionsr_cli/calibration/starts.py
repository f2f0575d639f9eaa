"""Starting values of a stage: transformations, branches, bounds and roundings before any fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from passionsr_cli.calibration.component_io import Read
from passionsr_cli.calibration.roundings import decide_roundings
from passionsr_cli.calibration.smoothing import search_exponents
from passionsr_cli.layers.convert import Learning
from passionsr_cli.methods.stages import (
    RoundByGPTQ,
    Start,
    StartBounds,
    StartBranches,
    StartTransform,
)
from passionsr_cli.models.chain import Chain
from passionsr_cli.progress import Reporter


@dataclass(frozen=True)
class Head:
    """The layers that start, what runs them, and what reaches them.

    `observe` passes all images through the layers, which then know their ranges as they are now;
    what these are for tells such passes apart.
    """

    name: str
    chain: Chain
    read: Read
    layers: Mapping[str, Learning]
    count: int
    observe: Callable[[str], None]
    reporter: Reporter


def start(what: Start, head: Head) -> None:
    """Take one step of a stage's start."""
    _STARTS[type(what)](what, head)


def _branches(what: StartBranches, head: Head) -> None:
    for layer in head.layers.values():
        layer.start_branch()


def _transform(what: StartTransform, head: Head) -> None:
    head.observe("transformations")
    for layer in head.layers.values():
        layer.start_transform(what.exponents[len(what.exponents) // 2])
    if len(what.exponents) > 1:
        search_exponents(head.chain, head.read, head.layers, what.exponents, what.branches)


def _bounds(what: StartBounds, head: Head) -> None:
    head.observe("bounds")
    for layer in head.layers.values():
        layer.start_bounds()


def _gptq(what: RoundByGPTQ, head: Head) -> None:
    task = f"{head.name}: rounding"
    decide_roundings(head.chain, head.read, head.layers, head.count, task, head.reporter)


_STARTS: dict[type[Start], Callable[[Any, Head], None]] = {
    StartBranches: _branches,
    StartTransform: _transform,
    StartBounds: _bounds,
    RoundByGPTQ: _gptq,
}
