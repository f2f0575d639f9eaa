from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.environment import environment_changed, environment_read

_changes: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _changes and event in ("os.putenv", "os.unsetenv"):
        _changes[-1].append(os.fsdecode(arguments[0]))


# It stays until the process ends.
sys.addaudithook(_note)


@pytest.fixture
def changes() -> Iterator[list[str]]:
    """Names of variables as they are changed."""
    _changes.append([])
    yield _changes[-1]
    _changes.pop()


def test_an_accelerator_changes_it_when_nothing_reads_it(changes: list[str]) -> None:
    earlier = accelerator("cpu", "bf16")
    making = threading.Thread(target=accelerator, args=("cpu", "fp32"))
    with environment_read(), environment_read():
        # pytest notes there which test runs.
        changes.clear()
        making.start()
        making.join(0.5)
        assert making.is_alive()
        assert not changes
        # What another thread uses is there until then.
        assert (earlier.mixed_precision, earlier.is_main_process) == ("bf16", True)
    making.join(60)
    assert not making.is_alive()
    assert "PATH" in changes


def test_it_is_read_by_several_at_once_and_not_while_it_changes() -> None:
    read = threading.Event()

    def reading() -> None:
        with environment_read():
            read.set()

    thread = threading.Thread(target=reading)
    with environment_read():
        thread.start()
        assert read.wait(10)
        thread.join()
    read.clear()
    thread = threading.Thread(target=reading)
    with environment_changed():
        thread.start()
        assert not read.wait(0.2)
    assert read.wait(10)
    thread.join()


def test_what_failed_reads_it_no_more() -> None:
    with pytest.raises(ZeroDivisionError), environment_read():
        raise ZeroDivisionError
    with environment_changed():
        pass
