from __future__ import annotations

from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.system import cpu, devices


def test_the_cpu_in_float32() -> None:
    found = devices.accelerator("cpu", "fp32")
    assert found.device.type == "cpu"
    assert devices.precision_name(found) == "fp32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("amx_tile", "bf16"), ("avx2 avx512_bf16", "bf16"), ("avx2 avx512f", "fp32")],
)
def test_auto_takes_bf16_where_the_cpu_computes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu, "instructions", cpu.instructions.__wrapped__)
    assert devices.precision_name(devices.accelerator("cpu", "auto")) == expected


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda' was asked for, this machine has 0 CUDA devices"):
        devices.accelerator("cuda")


def test_a_gpu_number_too_high_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        DeviceError, match="'cuda:3' was asked for, this machine has 1 CUDA device;"
    ):
        devices.accelerator("cuda:3")


@pytest.mark.parametrize(
    ("device", "precision", "error", "message"),
    [
        ("toaster", "auto", ConfigError, "unknown device 'toaster'"),
        (
            "cuda:",
            "auto",
            ConfigError,
            "unknown device 'cuda:'; use auto, cpu, cuda, cuda:N",
        ),
        ("cuda:-1", "auto", ConfigError, "unknown device 'cuda:-1'; use auto"),
        ("cuda:" + "9" * 5000, "auto", ConfigError, "unknown device 'cuda:9{35}'; use auto"),
        ("cuda:999999", "auto", DeviceError, "this machine has 0 CUDA devices; use --device auto"),
        ("gpu", "auto", ConfigError, "OpenVINO alone runs on 'gpu', and upscales"),
        ("npu:1", "auto", ConfigError, "unknown device 'npu:1'"),
        ("cpu", "int3", ConfigError, "unknown precision 'int3'"),
        ("cpu", "fp16", DeviceError, "fp16 needs a GPU"),
    ],
)
def test_impossible_wishes_are_explained(
    device: str,
    precision: str,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_has_driver", lambda: False)
    with pytest.raises(error, match=message):
        devices.accelerator(device, precision)
