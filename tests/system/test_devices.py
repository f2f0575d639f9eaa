from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.progress import Notes
from passionsr_cli.system import cpu, devices


def test_the_cpu_in_float32() -> None:
    assert devices.open_device("cpu", "fp32") == devices.Device("cpu", "fp32")
    found = devices.accelerator("cpu", "fp32")
    assert (found.device.type, found.mixed_precision) == ("cpu", "no")


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
    assert devices.open_device("cpu", "auto").precision == expected


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda' was asked for, this machine has 0 CUDA devices"):
        devices.open_device("cuda")


def test_a_gpu_number_too_high_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        DeviceError, match="'cuda:3' was asked for, this machine has 1 CUDA device;"
    ):
        devices.open_device("cuda:3")


def _card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], driver: int = 13010
) -> None:
    """A machine with one GPU, and a torch for CUDA 13.0 and capabilities from 7.5 on."""
    code = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.setattr(devices, "cuda_driver_version", lambda: driver)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: driver >= 13000)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: code)


def test_float32_on_a_gpu_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _card(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert devices.open_device("cuda", "fp32") == devices.Device("cuda", "fp32")
    assert not torch.backends.cudnn.allow_tf32


def test_an_accelerator_is_on_the_gpu_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    current: list[torch.device] = []
    _card(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(accelerate, "Accelerator", lambda **options: options["cpu"])
    assert devices.accelerator("cuda", "fp32") is False
    # Whoever only runs a model leaves it to the process.
    devices.open_device("cuda:0", "fp32")
    assert current == []
    assert devices.accelerator("cuda:0", "fp32") is False
    assert current == [torch.device("cuda:0")]


@pytest.mark.parametrize(("rank", "own"), [(0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0")])
def test_each_of_several_processes_has_its_own_gpu(
    rank: int, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert devices.choose_device("auto") == devices.choose_device("cuda") == own
    assert devices.choose_device("cuda:1") == "cuda:1"
    assert devices.choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((12, 1), "bf16"), ((13, 0), "bf16")],
)
def test_auto_takes_a_gpu_in_what_is_fast_there(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, capability)
    assert devices.choose_device("auto") == devices.choose_device("cuda") == "cuda"
    assert devices.choose_precision("auto", "cuda") == precision


@pytest.mark.parametrize(
    ("capability", "driver", "reason"),
    [
        ((7, 0), 13010, r"torch \S+ has no code for a card \(compute capability 7\.0\)"),
        ((9, 0), 12040, r"the driver is for CUDA 12\.4, torch needs 13\.0"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told(
    capability: tuple[int, int], driver: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, capability, driver)
    notes = Notes()
    assert devices.choose_device("auto", notes) == "cpu"
    (told,) = notes.texts
    assert re.match(f"{reason}.*: the CPU does the work", told)
    with pytest.raises(DeviceError, match=f"'cuda' was asked for, {reason}"):
        devices.choose_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    devices.choose_device("auto", notes)
    assert (len(notes.texts) == 2) is (driver < 13000)


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
        devices.open_device(device, precision)
