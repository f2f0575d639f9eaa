from __future__ import annotations

from types import SimpleNamespace

import pytest

from passionsr_cli.upscaling import shared_time


def test_time_is_divided_between_those_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 3.0, 5.0, 7.0, 20.0, 21.0])
    monkeypatch.setattr(shared_time, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    clock = shared_time.SharedTime()
    first = clock.begun()
    second = clock.begun()
    assert clock.ended(first) == 2 + 2 / 2
    assert clock.ended(second) == 2 / 2 + 2
    # Nothing was worked on in between.
    third = clock.begun()
    assert clock.ended(third) == 1
