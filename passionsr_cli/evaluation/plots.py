"""Plots of a report as SVG inside HTML: colours come from the page, so both its themes work.

A series has its colour and its shape by its number (`look`); text and axes have the colour of the
text around them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 24, 34
TICKS = 5
# As many as plots.css has classes s0, s1, …; more series have them again, as rings.
COLOURS = 8


@dataclass(frozen=True)
class Point:
    """A dot: where, of which series, and what is said of it."""

    x: float
    y: float
    series: int
    label: str


def look(series: int) -> str:
    """The classes of a series' dots, and of its mark in a legend."""
    return f"s{series % COLOURS}" + " ring" * (series >= COLOURS)


def plot(
    title: str, x_title: str, y_title: str, points: Sequence[Point], joined: bool = False
) -> str:
    """Dots in axes that just hold them; `joined` draws a line through those of each series."""
    x_axis = _Axis([point.x for point in points], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([point.y for point in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *(_across(y_axis, tick) for tick in y_axis.ticks),
        *(_below(x_axis, tick) for tick in x_axis.ticks),
        f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">'
        f"{escape(x_title)}</text>",
        f'<text class="name" x="{LEFT}" y="{TOP - 10}">{escape(y_title)}</text>',
    ]
    for series in sorted({point.series for point in points}) if joined else ():
        own = [point for point in points if point.series == series]
        places = " ".join(f"{x_axis.at(one.x):.1f},{y_axis.at(one.y):.1f}" for one in own)
        parts.append(f'<polyline class="line {look(series)}" points="{places}"/>')
    for point in points:
        parts.append(
            f'<circle class="dot {look(point.series)}" cx="{x_axis.at(point.x):.1f}" '
            f'cy="{y_axis.at(point.y):.1f}" r="{2.5 if joined else 5}">'
            f"<title>{escape(point.label)}</title></circle>"
        )
    return "\n".join([*parts, "</svg>"])


class _Axis:
    """Values between their extremes, with some room, along pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        self._low, self._high = low - room, high + room
        self._start, self._end = start, end
        step = _round_step((self._high - self._low) / TICKS)
        first, last = math.ceil(self._low / step), math.floor(self._high / step)
        self.ticks = [number * step for number in range(first, last + 1)]

    def at(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, not below `rough`."""
    power = 10 ** math.floor(math.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


def _across(axis: _Axis, tick: float) -> str:
    y = axis.at(tick)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
    )


def _below(axis: _Axis, tick: float) -> str:
    x = axis.at(tick)
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{tick:.4g}</text>'
