from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import pytest

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.strips import made_ahead, strips_of


def test_strips_made_ahead_are_the_same() -> None:
    image = np.arange(3 * 300 * 4, dtype=np.float32).reshape(3, 300, 4)
    assert np.array_equal(np.concatenate(list(made_ahead(strips_of(image))), 1), image)


def test_the_next_strip_is_made_while_one_is_worked_on() -> None:
    made = [threading.Event() for _ in range(3)]

    def strips() -> Iterator[Array]:
        for event in made:
            event.set()
            yield np.zeros((1, 1, 1), np.float32)

    ahead = made_ahead(strips())
    next(ahead)
    assert made[1].wait(5)
    # One, not all.
    assert not made[2].wait(0.1)
    assert len(list(ahead)) == 2


def test_what_goes_wrong_is_raised_where_strips_are_read() -> None:
    def strips() -> Iterator[Array]:
        yield np.zeros((1, 1, 1), np.float32)
        raise MemoryError("full")

    ahead = made_ahead(strips())
    next(ahead)
    with pytest.raises(MemoryError, match="full"):
        next(ahead)


def test_strips_are_made_in_the_context_of_who_reads_them() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen = []

    def strips() -> Iterator[Array]:
        for _ in range(2):
            seen.append(who.get())
            yield np.zeros((1, 1, 1), np.float32)

    who.set("a visitor")
    list(made_ahead(strips()))
    assert seen == ["a visitor"] * 2
