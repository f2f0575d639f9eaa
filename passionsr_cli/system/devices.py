"""Choosing the device and the precision, through accelerate."""

from __future__ import annotations

import re

import torch
from accelerate import Accelerator

from passionsr_cli.errors import ConfigError, DeviceError

_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator(device: str = "auto", precision: str = "auto") -> Accelerator:
    """An accelerator on the wanted device, refused clearly where this machine has none.

    `device` is auto, cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.
    `precision` is auto, fp32, bf16 or fp16; auto takes bf16 where it is fast (CPUs with AMX or
    AVX512-BF16, CUDA from compute capability 8.0), fp16 on older CUDA devices, else fp32.
    """
    from accelerate import DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    chosen = choose_device(device)
    name = choose_precision(precision, chosen)
    # accelerate keeps its choices for the whole process; a new call may choose differently.
    AcceleratorState._reset_state(reset_partial_state=True)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    # Not everything that learns takes part in every loss.
    several = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision=_ACCELERATE_NAMES[name],
        kwargs_handlers=[several],
    )


def precision_name(used: Accelerator) -> str:
    """fp32, bf16 or fp16, as an accelerator was made."""
    return {value: key for key, value in _ACCELERATE_NAMES.items()}[used.mixed_precision]


def choose_device(wanted: str) -> torch.device:
    """The device of this name, as `accelerator` describes it."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", wanted):
        raise ConfigError(f"unknown device '{wanted}'; use auto, cpu, cuda, cuda:N or mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return torch.device("cuda" if gpus else "mps" if has_mps else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"{gpus} CUDA device{'s' if gpus != 1 else ''}"
        raise DeviceError(f"'{wanted}' was asked for, this machine has {found}; use --device auto")
    if device.type == "mps" and not has_mps:
        raise DeviceError("'mps' was asked for, this machine has none; use --device auto")
    return device


def choose_precision(wanted: str, device: torch.device) -> str:
    """fp32, bf16 or fp16 on this device, as `accelerator` describes it."""
    if wanted not in ("auto", *_ACCELERATE_NAMES):
        raise ConfigError(f"unknown precision '{wanted}'; use auto, fp32, bf16 or fp16")
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 needs a GPU; on a CPU use --precision bf16 or fp32")
    return wanted


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AMX or AVX512-BF16)."""
    # The public torch.cpu.get_capabilities() is too young for the torch we accept.
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
