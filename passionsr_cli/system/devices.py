"""Choosing the device and the precision, through accelerate."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
import sys
from typing import TYPE_CHECKING

from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.system import cpu

if TYPE_CHECKING:
    from accelerate import Accelerator

_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator(device: str = "auto", precision: str = "auto") -> Accelerator:
    """An accelerator on the wanted device, refused clearly where this machine has none.

    `device` is auto, cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.
    `precision` is auto, fp32, bf16 or fp16; auto takes bf16 where it is fast (CPUs with AMX or
    AVX512-BF16, CUDA from compute capability 8.0), fp16 on older CUDA devices, else fp32.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    chosen = choose_device(device)
    name = choose_precision(precision, chosen)
    # accelerate keeps its choices for the whole process; a new call may choose differently.
    AcceleratorState._reset_state(reset_partial_state=True)
    if chosen.startswith("cuda:"):
        import torch

        torch.cuda.set_device(torch.device(chosen))
    # Not everything that learns takes part in every loss.
    several = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=chosen == "cpu",
        mixed_precision=_ACCELERATE_NAMES[name],
        kwargs_handlers=[several],
    )


def precision_name(used: Accelerator) -> str:
    """fp32, bf16 or fp16, as an accelerator was made."""
    return {value: key for key, value in _ACCELERATE_NAMES.items()}[used.mixed_precision]


def choose_device(wanted: str) -> str:
    """cpu, cuda, cuda:N or mps, as `accelerator` describes it; Intel's are not torch's.

    Imports torch only where there may be a GPU.
    """
    check_device_name(wanted)
    if is_intel(wanted):
        raise ConfigError(f"OpenVINO alone runs on '{wanted}', and upscales; use --device auto")
    has_torch, has_driver = importlib.util.find_spec("torch") is not None, _has_driver()
    if wanted == "cpu" or (wanted == "auto" and not (has_torch and has_driver)):
        return "cpu"
    gpus, has_mps = 0, False
    if has_driver or not has_torch:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if gpus else "mps" if has_mps else "cpu"
    if wanted.startswith("cuda") and int(wanted.partition(":")[2] or 0) >= gpus:
        found = f"{gpus} CUDA device{'s' if gpus != 1 else ''}"
        raise DeviceError(f"'{wanted}' was asked for, this machine has {found}; use --device auto")
    if wanted == "mps" and not has_mps:
        raise DeviceError("'mps' was asked for, this machine has none; use --device auto")
    return wanted


def check_device_name(wanted: str) -> None:
    """Raise `ConfigError` for what is no name of a device."""
    if not re.fullmatch(r"auto|cpu|mps|npu|(cuda|gpu)(:[0-9]{1,9})?", wanted):
        raise ConfigError(
            f"unknown device '{wanted[:40]}'; use auto, cpu, cuda, cuda:N or mps, or Intel's gpu, "
            "gpu:N or npu"
        )


def is_intel(device: str) -> bool:
    """Tell whether a name is that of one of Intel's devices, which OpenVINO runs on."""
    return device.startswith(("gpu", "npu"))


def _has_driver() -> bool:
    """Tell whether there is a driver that torch could use."""
    return sys.platform == "darwin" or has_gpu_driver()


def has_gpu_driver() -> bool:
    """Tell whether this machine has a driver of CUDA or ROCm."""
    for driver in ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(driver)
            return True
    return False


def cuda_driver_version() -> int:
    """The version of CUDA that the driver has, 13000 for 13.0; 0 without one."""
    found = ctypes.c_int(0)
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(found))
    return found.value


def choose_precision(wanted: str, device: str) -> str:
    """fp32, bf16 or fp16 on a device of `choose_device`, as `accelerator` describes it."""
    if wanted not in ("auto", *_ACCELERATE_NAMES):
        raise ConfigError(f"unknown precision '{wanted}'; use auto, fp32, bf16 or fp16")
    if wanted == "auto":
        if device.startswith("cuda"):
            import torch

            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        return "bf16" if device == "cpu" and cpu.has_bf16() else "fp32"
    if wanted == "fp16" and device == "cpu":
        raise DeviceError("fp16 needs a GPU; on a CPU use --precision bf16 or fp32")
    return wanted
