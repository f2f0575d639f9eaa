"""Choosing the device and the precision, for what runs and, through accelerate, what learns."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system import cpu
from passionsr_cli.system.environment import environment_changed

if TYPE_CHECKING:
    from accelerate import Accelerator

_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class Device:
    """Device and precision for torch: cpu, cuda, cuda:N or mps, in fp32, bf16 or fp16."""

    name: str
    precision: str


def open_device(
    device: str = "auto", precision: str = "auto", reporter: Reporter = SILENT
) -> Device:
    """The wanted device for torch, refused clearly where this machine has none.

    `device` is auto, cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU, and tells
    the reporter of a GPU that torch cannot use.
    `precision` is auto, fp32, bf16 or fp16; auto takes bf16 where it is fast (CPUs with AMX or
    AVX512-BF16, CUDA from compute capability 8.0), fp16 on older CUDA devices, else fp32. What is
    fp32 is so in convolutions, too, where cuDNN would take TF32.
    """
    chosen = choose_device(device, reporter)
    opened = Device(chosen, choose_precision(precision, chosen))
    if chosen.startswith("cuda"):
        import torch

        # cuDNN would round what is float32 to 10 bits for convolutions, and say nothing.
        torch.backends.cudnn.allow_tf32 = False
    return opened


def accelerator(
    device: str = "auto", precision: str = "auto", reporter: Reporter = SILENT
) -> Accelerator:
    """An accelerator, for what learns, on a device of `open_device`.

    The process has one at a time: those that were made before follow the newest, also a caller's.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    opened = open_device(device, precision, reporter)
    if ":" in opened.name:
        import torch

        # accelerate takes the current one.
        torch.cuda.set_device(torch.device(opened.name))
    # Not everything that learns takes part in every loss.
    several = DistributedDataParallelKwargs(find_unused_parameters=True)
    with environment_changed():
        # accelerate keeps its choices for the whole process; a new call may choose differently.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(
            cpu=opened.name == "cpu",
            mixed_precision=_ACCELERATE_NAMES[opened.precision],
            kwargs_handlers=[several],
        )


def choose_device(wanted: str, reporter: Reporter = SILENT) -> str:
    """cpu, cuda, cuda:N or mps, as `open_device` describes it; Intel's are not torch's.

    Of several GPUs each of the processes that share a work has its own. Imports torch only where
    there may be a GPU.
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
    found = _own_gpu(gpus) if wanted in ("auto", "cuda") else wanted
    number = int(found.partition(":")[2] or 0)
    obstacle = _obstacle(number) if number < gpus else _driver_obstacle() if not gpus else ""
    if wanted == "auto":
        if gpus and not obstacle:
            return found
        if obstacle and not has_mps:
            reporter.note(f"{obstacle}: the CPU does the work")
        return "mps" if has_mps else "cpu"
    if wanted.startswith("cuda") and (number >= gpus or obstacle):
        reason = obstacle or f"this machine has {gpus} CUDA device{'s' if gpus != 1 else ''}"
        raise DeviceError(f"'{wanted}' was asked for, {reason}; use --device auto")
    if wanted == "mps" and not has_mps:
        raise DeviceError("'mps' was asked for, this machine has none; use --device auto")
    return found


def _own_gpu(count: int) -> str:
    """The GPU of this process, as `accelerate launch` or torchrun start several."""
    if count == 0 or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return "cuda"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % count}"


def _obstacle(number: int) -> str:
    """The reason why torch has no code for a CUDA device that is there; empty if it has."""
    import torch

    capability = torch.cuda.get_device_capability(number)
    built_for = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
    for kind, *digits in built_for:
        major, minor = map(int, digits)
        # Code for a capability runs on later ones of its major number, PTX on all later ones.
        if (major, minor) <= capability and (kind == "compute" or major == capability[0]):
            return ""
    if torch.version.cuda is None or not built_for:
        return ""
    name, (major, minor) = torch.cuda.get_device_name(number), capability
    return f"torch {torch.__version__} has no code for {name} (compute capability {major}.{minor})"


def _driver_obstacle() -> str:
    """The reason why torch finds no GPU where a driver of NVIDIA's is; empty if there is none."""
    has = cuda_driver_version()
    if not has:
        return ""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    major, minor = map(int, torch.version.cuda.split(".")[:2])
    # A driver runs what is built for other minor versions of its own.
    if has // 1000 < major:
        driver = f"{has // 1000}.{has % 1000 // 10}"
        return f"the driver is for CUDA {driver}, torch needs {major}.{minor} (update the driver)"
    return ""


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
    """fp32, bf16 or fp16 on a device of `choose_device`, as `open_device` describes it."""
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
