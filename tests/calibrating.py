"""Calibrations of a table's rows without a process of their own."""

from __future__ import annotations

from passionsr_cli import api
from passionsr_cli.progress import Reporter
from passionsr_cli.reproduction.calibrations import Calibration
from passionsr_cli.store import Entry


class Making:
    """Calibrates in this process; remembers what was asked for, and in which state it was."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, calibration: Calibration, reporter: Reporter) -> Entry:
        state = calibration.state
        self.asked.append((calibration.name, state))
        resume = state == "unfinished"
        return api.calibrate(calibration.settings, calibration.name, resume, reporter)
