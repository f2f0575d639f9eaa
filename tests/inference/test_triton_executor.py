from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.errors import DeviceError
from passionsr_cli.exports.fidelity import psnr, upscaled
from passionsr_cli.inference.open import open_executor
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.progress import SILENT
from passionsr_cli.registry import EMBEDDED_CHECKPOINT
from passionsr_cli.store import CHECKPOINT

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

import triton

from passionsr_cli.inference import triton_executor as executors


def test_the_embedded_checkpoint_is_as_near_to_the_definition_as_openvino_is() -> None:
    source = resolve(EMBEDDED_CHECKPOINT, CHECKPOINT)
    # Noise crosses many middles between codes; a photograph this small may cross none.
    noise = np.random.default_rng(0).random((3, 8, 8), np.float32)
    images = {}
    for backend in ("torch", "openvino", "triton"):
        executor: Any = open_executor(source, backend, "cpu", "fp32", SILENT)
        images[backend] = upscaled(executor, noise)
    ran = executor.kernels()
    assert (executor.backend, executor.precision) == ("triton", "fp32")
    assert ran.on_integers
    assert len(ran.integer) > 100
    assert {how for _, how in ran.attentions} == {"triton_i8"}
    # No group normalization is torch's.
    kinds = Counter(type(module).__name__ for module in executor._model.modules())
    fused = 2 * kinds["IntegerResnet"] + kinds["ChannelsLastNorm"] + kinds["NormalizedConvolution"]
    assert kinds["GroupNorm"] == fused > 20
    openvino, found = (psnr(images[name], images["torch"]) for name in ("openvino", "triton"))
    assert openvino is not None
    assert found is not None
    assert found > max(50, openvino - 6)


def test_other_layers_are_simulated_and_why_is_said(
    calibrate: Callable[..., str], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bits, two codes a byte, and layers and attentions without a kernel."""
    source = resolve(calibrate("w4a4", model=str(tiny_folder)), CHECKPOINT)
    obstacle, image = executors.obstacle, torch.rand(1, 3, 16, 16).numpy()

    def no_strides(layer: FrozenLayer) -> str:
        return "it strides" if getattr(layer.product, "stride", None) == (2, 2) else obstacle(layer)

    monkeypatch.setattr(executors, "obstacle", no_strides)
    monkeypatch.setattr(
        executors, "attention_obstacle", lambda layer: "it has 2 heads" * (layer.heads == 2)
    )
    executor = open_executor(source, "triton", "cpu", "fp32", SILENT)
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    wanted = definition.decode(definition.restore_latent(image))
    found = executor.decode(executor.restore_latent(image))
    assert np.square(found - wanted).mean() < 0.05 * wanted.var()
    ran, simulated = executor.kernels(), definition.kernels()
    assert not ran.on_integers
    assert {how for _, how in ran.floating} == {"it strides, simulated in fp32"}
    layers = [name for name, _ in simulated.floating]
    assert sorted([*ran.integer, *dict(ran.floating)]) == sorted(layers)
    assert dict(ran.attentions).keys() == dict(simulated.attentions).keys()
    assert {how for _, how in ran.attentions} == {
        "triton_i8",
        "it has 2 heads, simulated in fp32",
    }


@pytest.mark.parametrize(
    ("device", "capability", "cuda", "message"),
    [
        ("cpu", (9, 0), "13.0", "need an NVIDIA GPU, 'cpu' is none; use --backend auto"),
        ("cuda", (9, 0), None, "need an NVIDIA GPU, 'cuda' is none"),
        ("cuda:1", (7, 5), "13.0", "compute capability 8.0, 'cuda:1' has 7.5; use --backend torch"),
        ("cuda", (8, 0), "13.0", ""),
    ],
)
def test_gpus_without_matrix_units_for_bytes_are_refused(
    device: str,
    capability: tuple[int, int],
    cuda: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executors.check_device(device)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: capability)
    monkeypatch.setattr(triton.runtime.driver, "_active", SimpleNamespace(utils=None))
    if not message:
        executors.check_device(device)
        return
    with pytest.raises(DeviceError, match=message):
        executors.check_device(device)


class _Stuck:
    """A driver of Triton's on a machine without a C compiler."""

    @property
    def utils(self) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify")


def test_a_triton_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.runtime.driver, "_active", _Stuck())
    with pytest.raises(DeviceError, match=r"not start \(Failed to find C compiler\.\), .* gcc"):
        executors.check_start()
