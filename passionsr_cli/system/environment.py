"""The process's environment, in which native code reads while libraries change it.

C's `getenv` beside `setenv` in another thread reads freed memory and ends the process. accelerate
empties and fills the whole environment whenever an accelerator is made, and OpenVINO reads it
while it compiles in threads of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_readers = 0
_unread = threading.Condition()


@contextmanager
def environment_read() -> Iterator[None]:
    """Run native code that reads variables, several threads at once, while none are changed."""
    global _readers
    with _unread:
        _readers += 1
    try:
        yield
    finally:
        with _unread:
            _readers -= 1
            _unread.notify_all()


@contextmanager
def environment_changed() -> Iterator[None]:
    """Run what changes variables when nothing in `environment_read` runs; that begins later."""
    with _unread:
        _unread.wait_for(lambda: _readers == 0)
        yield
