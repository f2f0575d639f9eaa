"""OpenVINO, once for the whole process."""

from __future__ import annotations

import functools
from typing import Any

import openvino

DEVICE = "CPU"


@functools.cache
def core() -> Any:
    """OpenVINO's core.

    Its CPU plugin sets a stack for signals when it is loaded and the one before it when it is
    unloaded: two that do not end in the opposite order of their beginning leave one that is no
    longer there, and the next Ctrl-C ends the process.
    """
    return openvino.Core()
