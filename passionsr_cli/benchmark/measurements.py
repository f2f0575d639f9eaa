"""A row of the table: what a case's measurements come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from passionsr_cli.benchmark.variants import Case, Kind
from passionsr_cli.conversion.kernels import KernelReport, is_integer_kernel, kernel_report
from passionsr_cli.models.costs import LayerCosts
from passionsr_cli.quantization.schemes import ATTENTION

Roofline = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Measurement:
    """One case as measured; `error` says why nothing was, and the numbers are then None.

    `seconds` is the median of `runs` tiles of `size`² pixels; `startup_cold_seconds` the time from
    opening to the first tile less one median tile, with nothing cached, `startup_cached_seconds`
    the same from the cache (None where there is none); `peak_memory_bytes` the process's, or the
    GPU's, while it was timed. `gflop` counts multiplications and additions of the whole model, in
    10⁹, `tops` is 10¹² of them per second, `roofline_share` that as a share of what the machine
    reaches in the arithmetic of most of the row's work. `integer_flop_share` is the share of the
    executed operations that integer kernels computed; `precision` is that of the others.
    """

    model: str
    backend: str
    variant: str
    size: int
    device: str
    precision: str
    runs: int = 0
    seconds: float | None = None
    seconds_min: float | None = None
    seconds_max: float | None = None
    startup_cold_seconds: float | None = None
    startup_cached_seconds: float | None = None
    peak_memory_bytes: int | None = None
    gflop: float | None = None
    tops: float | None = None
    roofline_share: float | None = None
    integer_flop_share: float | None = None
    simulated: bool = False
    error: str | None = None

    def __str__(self) -> str:
        came = "failed" if self.seconds is None else f"{self.seconds:.3f} s"
        return f"{self.backend} {self.variant}: {came}"


def measurement_of(
    case: Case,
    model: str,
    size: int,
    cold: float | None,
    measured: Mapping[str, Any],
    layers: Sequence[LayerCosts],
) -> Measurement:
    """The row of a case, without its share of the roof, from what `timing.time_tiles` returned.

    `cold` is the first tile's time in an earlier process that found no cache; without it the one
    process was cold.
    """
    seconds = measured["seconds"]
    typical = median(seconds)
    operations = sum(layer.operations for layer in layers)
    # What is left of a first tile after a slower median is nothing, not less.
    first = max(0.0, measured["first_tile_seconds"] - typical)
    return Measurement(
        model=model,
        backend=case.backend,
        variant=case.variant.name,
        size=size,
        device=measured["device"],
        precision=case.variant.precision,
        runs=len(seconds),
        seconds=typical,
        seconds_min=min(seconds),
        seconds_max=max(seconds),
        startup_cold_seconds=first if cold is None else max(0.0, cold - typical),
        startup_cached_seconds=None if cold is None else first,
        peak_memory_bytes=measured["peak_memory_bytes"],
        gflop=operations / 1e9,
        tops=operations / typical / 1e12,
        integer_flop_share=integer_flop_share(layers, kernel_report(measured["ran"])),
        simulated=case.variant.kind is not Kind.FLOATING and case.backend == "torch",
    )


def integer_flop_share(layers: Sequence[LayerCosts], ran: KernelReport) -> float:
    """Operations that ran on integer kernels, as a share of all that ran.

    Folded layers did not run. Of an attention's two equal products, those count whose kernel is
    one of integers; where OpenVINO fused both, its one kernel speaks for both.
    """
    kernels = {name: how.split(" and ") for name, how in ran.attentions}
    executed = on_integers = 0.0
    for layer in layers:
        if layer.name in ran.folded:
            continue
        executed += layer.operations
        if layer.kind == ATTENTION:
            found = kernels.get(layer.name, [""])
            share = sum(is_integer_kernel(kernel) for kernel in found) / len(found)
            on_integers += share * layer.operations
        elif layer.name in ran.integer:
            on_integers += layer.operations
    return on_integers / executed


def roofline_share(row: Measurement, roofline: Roofline) -> float | None:
    """A row's TOPS as a share of the better of matmul and convolution in its main arithmetic.

    That is int8 where integers do most of its work. None for a GPU, whose roof is not measured.
    """
    if row.tops is None or row.device != "cpu":
        return None
    arithmetic = "int8" if (row.integer_flop_share or 0) > 0.5 else row.precision
    roofs = [roof for roof in roofline.get(arithmetic, {}).values() if roof is not None]
    return row.tops / max(roofs) if roofs else None


def higher(one: Roofline, other: Roofline) -> Roofline:
    """The higher of two measurements of each roof: other programs can only lower them."""
    return {
        arithmetic: {
            name: max((roof for roof in (first, other[arithmetic][name]) if roof), default=None)
            for name, first in roofs.items()
        }
        for arithmetic, roofs in one.items()
    }
