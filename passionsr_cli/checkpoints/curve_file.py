"""The loss curve of a calibration, as CSV beside its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from passionsr_cli.system.files import replace_atomically

CURVE_FILE = "curve.csv"
CURVE_COLUMNS = ("stage", "step", "seconds", "loss", "learning_rate")

Row = tuple[str, int, float, float, float]


def write_curve(folder: Path, rows: Sequence[Row]) -> None:
    """The curve as CSV: stage, step, seconds, loss (moving average), learning rate."""
    lines = [",".join(CURVE_COLUMNS)]
    lines += [f"{r[0]},{r[1]},{r[2]:.2f},{r[3]:.6g},{r[4]:.6g}" for r in rows]
    with replace_atomically(folder / CURVE_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_curve(folder: Path) -> list[Row]:
    """Read what `write_curve` wrote; empty if there is none."""
    path = folder / CURVE_FILE
    if not path.exists():
        return []
    rows = [line.rsplit(",", 4) for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [(r[0], int(r[1]), float(r[2]), float(r[3]), float(r[4])) for r in rows]
