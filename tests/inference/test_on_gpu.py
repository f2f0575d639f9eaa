"""Executors on an NVIDIA GPU: integers on real kernels, recorded, and full precision compiled."""

from __future__ import annotations

import numpy as np
import pytest

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.exports.fidelity import psnr
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.registry import EMBEDDED_CHECKPOINT, EMBEDDED_MODEL
from passionsr_cli.store import CHECKPOINT, MODEL
from passionsr_cli.system.devices import open_device

pytestmark = pytest.mark.gpu


def _image(executor: Executor, tile: Array) -> Array:
    return executor.decode(executor.restore_latent(tile))


def _near(first: Array, second: Array, decibels: float) -> bool:
    found = psnr(first, second)
    return found is None or found > decibels


@pytest.mark.parametrize(("precision", "decibels"), [("fp32", 50), ("bf16", 40), ("fp16", 40)])
def test_integers_are_near_the_definition_recorded_or_not(precision: str, decibels: float) -> None:
    source, notes = resolve(EMBEDDED_CHECKPOINT, CHECKPOINT), Notes()
    executor = open_executor(source, "triton", "cuda", precision, notes)
    definition = open_executor(source, "torch", "cuda", "fp32", SILENT)
    for batch in (1, 3):
        tiles = np.random.default_rng(batch).random((3, batch, 3, 256, 256), np.float32)
        # The first runs as it is, the second records, the third replays.
        for tile in tiles:
            assert _near(_image(executor, tile), _image(definition, tile), decibels)
    ran = executor.kernels()
    assert ran.on_integers
    assert {how for _, how in ran.attentions} == {"triton_i8"}
    assert 0 < executor.peak_memory_bytes() < 8 * 10**9
    assert not notes.texts


def test_auto_holds_a_race_and_takes_what_it_says() -> None:
    source = resolve(EMBEDDED_CHECKPOINT, CHECKPOINT)
    backends, heard = [], Notes()
    for _ in range(2):
        backends.append(open_executor(source, "auto", "cuda", "bf16", heard).backend)
    assert backends[0] == backends[1]
    assert "failed" not in heard.texts[1]
    assert ("on integers" in heard.texts[1]) == (backends[0] == "triton")
    assert heard.texts[1:] == [heard.texts[1]] * 2
    print(heard.texts[1])


def test_compiled_bf16_is_the_same_image() -> None:
    from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor

    source = resolve(EMBEDDED_MODEL, MODEL)
    tile = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    compiled, plain = (
        kind(source.load(), open_device("cuda", "bf16"))
        for kind in (CompiledExecutor, TorchExecutor)
    )
    assert _near(_image(compiled, tile), _image(plain, tile), 40)
