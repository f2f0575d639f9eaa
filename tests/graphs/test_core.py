"""OpenVINO's other devices, as a core would list them that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.graphs import core as core_module
from passionsr_cli.graphs.core import find_device, precision_on
from passionsr_cli.inference import openvino_executor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.progress import SILENT
from passionsr_cli.store import CHECKPOINT

CAPABILITIES = {"NPU": ["FP16", "INT8", "EXPORT_IMPORT"], "GPU": ["FP32", "BIN", "FP16", "INT8"]}


class _Core:
    """A core with other devices, all of which are this CPU."""

    def __init__(self, *devices: str) -> None:
        self.real, self.available_devices = core_module.core(), ["CPU", *devices]
        self.compiled: list[tuple[str, dict[str, str]]] = []

    def get_property(self, device: str, key: str) -> object:
        assert device in self.available_devices
        return {
            "FULL_DEVICE_NAME": f"Intel {device}",
            "OPTIMIZATION_CAPABILITIES": CAPABILITIES[device.partition(".")[0]],
        }[key]

    def read_model(self, path: Any) -> Any:
        return self.real.read_model(path)

    def compile_model(self, model: Any, device: str, settings: dict[str, str]) -> Any:
        self.compiled.append((device, settings))
        return self.real.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.fixture
def having(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Core]:
    def have(*devices: str) -> _Core:
        core = _Core(*devices)
        monkeypatch.setattr(core_module, "core", lambda: core)
        monkeypatch.setattr(openvino_executor, "core", lambda: core)
        return core

    return have


@pytest.mark.parametrize(
    ("there", "wanted", "name"),
    [
        (["GPU"], "gpu", "GPU"),
        (["GPU"], "gpu:0", "GPU"),
        (["GPU.0", "GPU.1", "NPU"], "gpu", "GPU"),
        (["GPU.0", "GPU.1"], "gpu:1", "GPU.1"),
        (["NPU"], "npu", "NPU"),
        ([], "cpu", "CPU"),
        (["NPU"], "gpu", None),
        (["GPU"], "gpu:1", None),
        ([], "npu", None),
    ],
)
def test_devices(
    having: Callable[..., _Core], there: list[str], wanted: str, name: str | None
) -> None:
    having(*there)
    if name is not None:
        assert find_device(wanted) == name
        return
    with pytest.raises(DeviceError) as refused:
        find_device(wanted)
    found = ", ".join(["CPU", *there])
    assert str(refused.value).startswith(
        f"'{wanted}' was asked for, OpenVINO finds {found} on this machine"
    )
    assert "\n" not in str(refused.value)


def test_precisions_are_those_a_device_has(having: Callable[..., _Core]) -> None:
    having("GPU", "NPU")
    assert precision_on("GPU", "auto") == precision_on("NPU", "auto") == "fp16"
    assert precision_on("GPU", "fp32") == "fp32"
    with pytest.raises(DeviceError, match="NPU does not compute in fp32; use --precision fp16"):
        precision_on("NPU", "fp32")


def test_the_same_graphs_run_there(
    having: Callable[..., _Core], calibrate: Callable[..., str]
) -> None:
    core = having("GPU.0", "GPU.1")
    source = resolve(calibrate("w8a8"), CHECKPOINT)
    executor = open_executor(source, "auto", "gpu:1", "auto", SILENT)
    image = torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)).numpy()
    found = executor.decode(executor.restore_latent(image))
    assert (executor.backend, executor.device, executor.precision) == ("openvino", "gpu:1", "fp16")
    assert {device for device, _ in core.compiled} == {"GPU.1"}
    settings = core.compiled[0][1]
    assert settings["INFERENCE_PRECISION_HINT"] == "f16"
    assert settings["CACHE_DIR"]
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    wanted = definition.decode(definition.restore_latent(image))
    assert np.mean(np.abs(found - wanted) > 0.05) < 0.05
    assert {*executor.kernels().integer, *dict(executor.kernels().floating)}


def test_the_other_backends_do_not_run_there(
    having: Callable[..., _Core], calibrate: Callable[..., str]
) -> None:
    source = resolve(calibrate("w8a8"), CHECKPOINT)
    with pytest.raises(ConfigError, match="torch does not run on 'npu'; use --backend openvino"):
        open_executor(source, "torch", "npu", "auto", SILENT)
    with pytest.raises(ConfigError, match="onnxruntime runs on cpu or cuda here, not on 'npu'"):
        open_executor(source, "onnxruntime", "npu", "auto", SILENT)
    with pytest.raises(ConfigError, match=r"triton does not run on 'gpu'; .* if NVIDIA's is meant"):
        open_executor(source, "triton", "gpu", "auto", SILENT)
    having()
    with pytest.raises(DeviceError, match="'npu' was asked for, OpenVINO finds CPU"):
        open_executor(source, "auto", "npu", "auto", SILENT)
