"""Calibrations whose pictures nobody looks at."""

from __future__ import annotations

import pytest
from calibrating import draw_nothing


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
