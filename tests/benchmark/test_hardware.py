from __future__ import annotations

import pytest

from passionsr_cli.benchmark import hardware


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "MATMUL_SIDE", 128)
    monkeypatch.setattr(hardware, "CONVOLUTION_SIDE_PX", 16)
    monkeypatch.setattr(hardware, "CONVOLUTION_CHANNELS", 64)
    monkeypatch.setattr(hardware, "LEAST_SECONDS", 0.0)


def test_operations_are_multiplications_and_additions() -> None:
    assert hardware._products("matmul", False)[1] == 4 * 2 * 128**3
    assert hardware._products("convolution", True)[1] == 4 * 2 * 16**2 * 64 * 64 * 9


def test_the_machine_is_described_with_its_roofs() -> None:
    machine = hardware.measure_machine()
    assert set(machine["roofline"]) == {"int8", "bf16", "fp32"}
    assert machine["roofline"]["fp32"]["convolution_tops"] > 0
    assert machine["memory_bytes"] > 1e8
    assert machine["threads"]["openvino"] >= 1
    assert machine["versions"]["passionsr"]


def test_a_kernel_of_another_arithmetic_is_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hardware.KERNELS, "int8", "_i4")
    assert hardware.product_tops("matmul", "int8") is None
