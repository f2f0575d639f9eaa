"""Exports of the tiny models."""

from __future__ import annotations

import pytest

from passionsr_cli.exports import exporting


@pytest.fixture
def small_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported without a size is proven on fewer pixels."""
    monkeypatch.setattr(exporting, "DEFAULT_SIZE_PX", 64)
