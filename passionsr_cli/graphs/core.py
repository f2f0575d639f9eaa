"""OpenVINO, once for the whole process."""

from __future__ import annotations

import functools
from typing import Any

import openvino

from passionsr_cli.errors import DeviceError

DEVICE = "CPU"
# OpenVINO's words for what a device computes in, and ours.
PRECISIONS = {"FP16": "fp16", "FP32": "fp32"}


@functools.cache
def core() -> Any:
    """OpenVINO's core.

    Its CPU plugin sets a stack for signals when it is loaded and the one before it when it is
    unloaded: two that do not end in the opposite order of their beginning leave one that is no
    longer there, and the next Ctrl-C ends the process.
    """
    return openvino.Core()


def find_device(wanted: str) -> str:
    """OpenVINO's name of a device that people call cpu, gpu, gpu:N or npu.

    Raises `DeviceError` with what there is if OpenVINO does not find it.
    """
    name = wanted.upper().replace(":", ".")
    there = list(core().available_devices)
    # A device that is the only one of its kind has no number, and the first of several is meant
    # where none is given.
    alone = name.removesuffix(".0")
    if not any(each in (name, alone) or each == f"{name}.0" for each in there):
        raise DeviceError(
            f"'{wanted}' was asked for, OpenVINO finds {', '.join(there)} on this machine; "
            "use --device auto, or install Intel's driver"
        )
    return name if name in there else alone


def precision_on(device: str, wanted: str) -> str:
    """fp16 or fp32 on a device other than the CPU: auto is fp16 where it has that.

    Raises `DeviceError` for what the device does not compute in.
    """
    capabilities = core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    known = [PRECISIONS[each] for each in ("FP16", "FP32") if each in capabilities]
    if wanted not in ("auto", *known):
        raise DeviceError(
            f"{device} does not compute in {wanted}; use --precision {' or '.join(known)}"
        )
    return known[0] if wanted == "auto" else wanted
