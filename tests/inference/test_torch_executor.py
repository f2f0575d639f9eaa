from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from passionsr_cli.errors import DeviceError
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.devices import Device, open_device


def test_bf16_stays_close_to_float32_and_returns_float32(tiny_model: OneStepModel) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.manual_seed(0))
    exact = tiny_model(image)
    executor = TorchExecutor(tiny_model, open_device("cpu", "bf16"))
    latent = executor.restore_latent(image.numpy())
    found = executor.decode(latent)
    assert latent.dtype == found.dtype == np.float32
    assert tiny_model.vae.encoder.conv_in.weight.dtype == torch.bfloat16
    assert tiny_model.vae.encoder.conv_norm_out.weight.dtype == torch.float32
    assert np.abs(found - exact.numpy()).mean() < 0.01
    assert executor.peak_memory_bytes() > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_opening_and_tiles_leave_the_environment_alone(
    tiny_model: OneStepModel, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs that are compiled in other threads read it, and would end the process."""

    def change(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as during:
        during.setattr(os, "putenv", change)
        during.setattr(os, "unsetenv", change)
        executor = TorchExecutor(tiny_model, open_device("cpu", precision))
        latent = executor.restore_latent(np.zeros((1, 3, 64, 64), np.float32))
        assert executor.decode(latent).shape == (1, 3, 64, 64)


def test_an_accelerator_of_the_callers_stays_as_it_is(tiny_model: OneStepModel) -> None:
    """accelerate has one state for the whole process, which a training may use meanwhile."""
    AcceleratorState._reset_state(reset_partial_state=True)
    own = Accelerator(cpu=True, mixed_precision="bf16")
    executor = TorchExecutor(tiny_model, open_device("cpu", "fp32"))
    assert executor.decode(np.zeros((1, 4, 8, 8), np.float32)).dtype == np.float32
    assert (own.mixed_precision, own.is_main_process) == ("bf16", True)
    with own.autocast():
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16


def test_a_gpu_is_the_current_one_while_it_computes(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles are computed in threads, whose current one is the first."""
    current: list[str] = []

    @contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        current.append(str(chosen))
        yield
        current.pop()

    def decode(latent: torch.Tensor) -> torch.Tensor:
        assert current == ["cuda:1"]
        return latent

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(tiny_model, "to", lambda *places, **options: tiny_model)
    monkeypatch.setattr(tiny_model, "decode", decode)
    executor = TorchExecutor(tiny_model, Device("cuda:1", "fp32"))
    monkeypatch.setattr(executor, "_tensor", torch.from_numpy)
    assert executor.decode(np.zeros((1, 4, 8, 8), np.float32)).shape == (1, 4, 8, 8)
    assert (executor.device, current) == ("cuda:1", [])


def test_weights_are_channels_last(tiny_model: OneStepModel) -> None:
    TorchExecutor(tiny_model, open_device("cpu", "fp32"))
    weight = tiny_model.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_running_out_of_memory_says_what_to_do(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = TorchExecutor(tiny_model, open_device("cpu", "fp32"))

    def exhausted(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(tiny_model, "decode", exhausted)
    with pytest.raises(DeviceError, match="choose a smaller --tile"):
        executor.decode(np.zeros((1, 4, 8, 8), np.float32))


@pytest.mark.parametrize(("realism", "channels"), [(0, slice(0, 4)), (1, slice(4, 8))])
@torch.no_grad()
def test_the_ends_of_a_dial_are_its_heads(
    dial_model: OneStepModel, realism: float, channels: slice
) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0))
    latent = dial_model.encode(image)
    head = dial_model.unet(latent, 199, dial_model.context).sample[:, channels]
    expected = (latent - dial_model.rates[1] * head) / dial_model.rates[0]
    executor = TorchExecutor(dial_model, open_device("cpu", "fp32"))
    found = executor.restore_latent(image.numpy(), realism)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_model_that_does_not_fit_is_told(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to(model: OneStepModel, device: object = None, **layout: object) -> OneStepModel:
        if device is not None:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return model

    monkeypatch.setattr(OneStepModel, "to", to)
    with pytest.raises(DeviceError, match="does not fit in what is free of the memory of 'cpu'"):
        TorchExecutor(tiny_model, open_device("cpu", "fp32"))
