"""Benchmarks as people see them: a table of rows, and what the machine reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from passionsr_cli.terminal.console import output
from passionsr_cli.terminal.tables import numbers, print_table, words

if TYPE_CHECKING:
    from passionsr_cli.benchmark.measurements import Measurement
    from passionsr_cli.benchmark.records import Comparison
    from passionsr_cli.benchmark.run import Report


def show_report(report: Report) -> None:
    """The table, and below it what the machine reaches."""
    first = report.rows[0]
    done = next((row for row in report.rows if row.gflop is not None), None)
    work = "" if done is None else f", {done.gflop:,.1f} GFLOP"
    columns = words("variant", "backend", "")
    columns += numbers("seconds", "±", "TOPS", "roof", "int", "cold", "cached", "GB")
    rows = [(row.variant, row.backend, row.precision, *_cells(row)) for row in report.rows]
    print_table(columns, rows, f"{first.model}, {first.size}×{first.size}{work}")
    if any(row.simulated for row in report.rows):
        output.print("sim.: simulated, torch computes integers in floating point")
    output.print(_machine_line(report.machine), soft_wrap=True, markup=False)
    if report.comparison is not None:
        _show_comparison(report.comparison)


def _show_comparison(comparison: Comparison) -> None:
    columns = words("variant", "backend") + numbers("before", "now", "change")
    rows = [
        (
            change.variant,
            change.backend,
            f"{change.before:.3f}",
            f"{change.now:.3f}",
            f"{change.change:+.0%}",
        )
        for change in comparison.changes
    ]
    title = f"seconds as multiples of {comparison.reference}; {comparison.tolerance:.0%} tolerated"
    print_table(columns, rows, title)
    if comparison.missing:
        names = ", ".join(comparison.missing)
        output.print(f"not measured now: {names}", soft_wrap=True, markup=False)


def _cells(row: Measurement) -> list[str]:
    if row.seconds is None or row.seconds_min is None or row.seconds_max is None:
        return ["failed", *[""] * 7]
    return [
        f"{row.seconds:.3f}",
        _percent((row.seconds_max - row.seconds_min) / 2 / row.seconds),
        f"{row.tops:.3f}",
        _percent(row.roofline_share),
        "sim." if row.simulated else _percent(row.integer_flop_share),
        _seconds(row.startup_cold_seconds),
        _seconds(row.startup_cached_seconds),
        f"{(row.peak_memory_bytes or 0) / 1e9:.2f}",
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _machine_line(machine: dict[str, Any]) -> str:
    """'AMD EPYC, 2 threads; its roof: int8 0.99, bf16 0.52, fp32 0.27 TOPS'."""
    if not machine:
        return "this machine's roofline is unknown"
    roofs = {
        name: max((roof for roof in roofs.values() if roof is not None), default=None)
        for name, roofs in machine["roofline"].items()
    }
    reached = ", ".join(
        f"{name} {'none' if roof is None else f'{roof:.2f}'}" for name, roof in roofs.items()
    )
    return f"{machine['cpu']}, {machine['threads']['openvino']} threads; its roof: {reached} TOPS"
