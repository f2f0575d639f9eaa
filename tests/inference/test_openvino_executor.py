from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integers import on_integers_as_far_as_exact

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.graphs.compiled_graphs import CompiledGraph, CompiledGraphs
from passionsr_cli.graphs.core import DEVICE
from passionsr_cli.graphs.graph_cache import KEPT_SIZES, GraphCache
from passionsr_cli.inference import openvino_executor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.inference.openvino_executor import OVERFLOWS, OpenVINOExecutor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.store import CHECKPOINT, MODEL


def _random(*shape: int) -> Array:
    image: Array = torch.rand(shape).numpy()
    return image


def _executor(source: Artifact, folder: Path, notes: Notes) -> OpenVINOExecutor:
    return OpenVINOExecutor(source.description, GraphCache(folder, source.load, notes), "fp32")


@pytest.fixture(scope="module")
def converted(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's graphs, compiled for images of 32×32."""
    folder = tmp_path_factory.mktemp("converted") / "graphs"
    executor = _executor(resolve(str(saved_models / "tiny"), MODEL), folder, Notes())
    executor.restore_latent(_random(1, 3, 32, 32))
    return folder


@pytest.fixture
def graphs(converted: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may damage."""
    return Path(shutil.copytree(converted, tmp_path / "graphs"))


@pytest.mark.parametrize("bits", ["w8a8", "w6a6", "w2a2"])
def test_quantized_layers_run_on_integers(
    calibrate: Callable[..., str], bits: str, tmp_path: Path
) -> None:
    source = resolve(calibrate(bits), CHECKPOINT)
    executor = _executor(source, tmp_path / "graphs", Notes())
    image = _random(1, 3, 32, 32)
    result = executor.decode(executor.restore_latent(image))
    ran = executor.kernels()
    assert on_integers_as_far_as_exact(ran)
    rows = find_checkpoint(bits).manifest.layers
    weighted = {row.name for row in rows if row.plan is not None and row.kind != "attention"}
    floating = {name for name, _ in ran.floating}
    assert set(ran.integer) | set(ran.folded) | floating == weighted
    # 8 bits, which some layers keep at any width, may overflow; fewer never do.
    coarse = {row.name for row in rows if row.weight is not None and row.weight.num_bits <= 6}
    assert floating.isdisjoint(coarse)
    # The timestep and the context are the same for every image.
    assert {name for name in ran.folded if "attn2" not in name and "time_emb" not in name} == set()
    assert {name for name, _ in ran.attentions} == {
        row.name for row in rows if row.plan is not None and row.kind == "attention"
    }
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    assert definition.kernels().floating[0][1] == "simulated in fp32"
    assert not definition.kernels().on_integers
    wanted = definition.decode(definition.restore_latent(image))
    # Both round to the same grids (test_openvino_graph.py). A value midway between two integers
    # goes either way, though, and what that does to the next layers grows with each.
    assert np.square(result - wanted).mean() < 0.05 * wanted.var()


def test_what_would_overflow_is_computed_in_floats(
    calibrate: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passionsr_cli.graphs.arithmetic.products_saturate", lambda: True)
    source, notes = resolve(calibrate("w8a8"), CHECKPOINT), Notes()
    image = _random(1, 3, 32, 32)
    executor = _executor(source, tmp_path / "graphs", notes)
    latent = executor.restore_latent(image)
    ran = executor.kernels()
    assert ran.integer == ()
    assert not ran.on_integers
    assert {how for _, how in ran.floating} == {OVERFLOWS}
    assert ran.attentions
    assert all("i8" not in how.lower() for _, how in ran.attentions)
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    wanted = definition.restore_latent(image)
    assert np.square(latent - wanted).mean() < 0.05 * wanted.var()
    # It is said once: when the graphs are made.
    assert [note for note in notes.texts if "layers run in floating point" in note] == notes.texts[
        1:
    ]
    assert len(notes.texts) == 2
    _executor(source, tmp_path / "graphs", notes).restore_latent(image)
    assert len(notes.texts) == 2


def test_the_encoder_of_integers_is_exact_at_any_precision(
    calibrate: Callable[..., str], tiny_folder: Path, tmp_path: Path
) -> None:
    def precisions(artifact: Artifact) -> dict[str, str]:
        graphs = GraphCache(tmp_path / artifact.fingerprint, artifact.load, SILENT)
        given = (artifact.description, graphs, "bf16", "cpu", DEVICE, artifact.quantized)
        executor = OpenVINOExecutor(*given)
        executor.decode(executor.restore_latent(_random(1, 3, 32, 32)))
        kept = (tmp_path / artifact.fingerprint / "compiled").glob("*.blob")
        return {path.stem.split("-")[0]: path.stem.split("-")[-1] for path in kept}

    around = {"unet": "bf16", "decoder": "bf16"}
    quantized = resolve(calibrate("w6a6"), CHECKPOINT)
    assert precisions(quantized) == {"encoder": "fp32", **around}
    floating = resolve(str(tiny_folder), MODEL)
    assert precisions(floating) == {"encoder": "bf16", **around}


@pytest.mark.parametrize("small", [True, False])
def test_a_small_decoder_is_made_ready_while_latents_are_restored(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """A large one would take its memory before theirs is given back."""
    begun: list[str] = []

    def begin(graphs: CompiledGraphs, name: str, make: Callable[[], CompiledGraph]) -> object:
        begun.append(name)
        return made(graphs, name, make)

    made = CompiledGraphs.begin
    monkeypatch.setattr(CompiledGraphs, "begin", begin)
    if not small:
        monkeypatch.setattr(openvino_executor, "SMALL_BYTES", 0)
    executor = _executor(resolve(str(tiny_folder), MODEL), tmp_path / "graphs", Notes())
    latent = executor.restore_latent(_random(1, 3, 32, 32))
    ahead = [name for name in begun if name.startswith("decoder")]
    assert len(ahead) == small
    executor.decode(latent)
    assert {name for name in begun if name.startswith("decoder")} == set(ahead or begun[-1:])


def test_what_was_given_back_is_there_again_and_told(
    calibrate: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_executor, "SMALL_BYTES", 0)
    executor = _executor(resolve(calibrate("w6a6"), CHECKPOINT), tmp_path / "graphs", Notes())
    image = _random(1, 3, 32, 32)
    latent = executor.restore_latent(image)
    told = executor.kernels()
    assert told.integer
    executor.release_restoring()
    executor.decode(latent)
    assert set(told.integer) < set(executor.kernels().integer)
    assert np.array_equal(executor.restore_latent(image), latent)


@pytest.mark.parametrize("saturating", [False, True])
def test_graphs_are_fitted_to_how_this_cpu_sums_products(
    calibrate: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saturating: bool,
) -> None:
    """Sums of weights that were exact one by one could overflow, and nobody would be told."""
    fitted: list[bool] = []

    def fit(model: Any, saturates: bool) -> None:
        fitted.append(saturates)

    monkeypatch.setattr("passionsr_cli.graphs.arithmetic.products_saturate", lambda: saturating)
    monkeypatch.setattr(openvino_executor, "fit_to_cpu", fit)
    source = resolve(calibrate("w6a6"), CHECKPOINT)
    graphs = GraphCache(tmp_path / "graphs", source.load, SILENT)
    given = (source.description, graphs, "fp32", "cpu", DEVICE, source.quantized)
    OpenVINOExecutor(*given).restore_latent(_random(1, 3, 32, 32))
    assert set(fitted) == {saturating}


def test_floating_point_models_agree_with_torch(tiny_folder: Path, graphs: Path) -> None:
    source = resolve(str(tiny_folder), MODEL)
    executor = _executor(source, graphs, Notes())
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    image = _random(2, 3, 32, 48)
    latent = definition.restore_latent(image)
    assert np.allclose(executor.restore_latent(image), latent, atol=1e-3)
    assert np.allclose(executor.decode(latent), definition.decode(latent), atol=1e-4)
    assert executor.kernels().integer == ()


def test_a_dial_is_turned_behind_the_graphs(dial_folder: Path, tmp_path: Path) -> None:
    source = resolve(str(dial_folder), MODEL)
    executor = _executor(source, tmp_path / "graphs", Notes())
    definition = source.load()
    image = torch.rand(1, 3, 32, 48, generator=torch.manual_seed(0))
    with torch.no_grad():
        latent = definition.encode(image)
        heads = definition.unet(latent, 199, definition.context).sample
    for realism in (None, 0.0, 0.6, 1.0):
        r = 0.25 if realism is None else realism
        noise = (1 - r) * heads[:, :4] + r * heads[:, 4:]
        expected = (latent - definition.rates[1] * noise) / definition.rates[0]
        found = executor.restore_latent(image.numpy(), realism)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)


def test_a_dial_leaves_the_integers_as_they_are(
    calibrate: Callable[..., str], dial_folder: Path, tmp_path: Path
) -> None:
    source = resolve(calibrate("w4a6", model=str(dial_folder)), CHECKPOINT)
    executor = _executor(source, tmp_path / "graphs", Notes())
    image = _random(1, 3, 32, 32)
    faithful, between, natural = (executor.restore_latent(image, r) for r in (0, 0.3, 1))
    assert on_integers_as_far_as_exact(executor.kernels())
    assert not np.allclose(faithful, natural, atol=1e-2)
    expected = 0.7 * faithful + 0.3 * natural
    np.testing.assert_allclose(between, expected, rtol=1e-4, atol=1e-5)


def _must_not_load() -> OneStepModel:
    raise AssertionError("the cache was not used")


def test_later_runs_start_from_the_cache(calibrate: Callable[..., str], tmp_path: Path) -> None:
    source, notes = resolve(calibrate("w6a6"), CHECKPOINT), Notes()
    image, folder = _random(1, 3, 32, 32), tmp_path / "graphs"
    first = _executor(source, folder, notes)
    latent = first.restore_latent(image)
    result = first.decode(latent)
    assert notes.texts[0] == "converting the model, once; later runs start from the cache"
    told = len(notes.texts)
    again = OpenVINOExecutor(source.description, GraphCache(folder, _must_not_load, notes), "fp32")
    assert np.array_equal(again.restore_latent(image), latent)
    assert np.array_equal(again.decode(latent), result)
    assert again.kernels() == first.kernels()
    assert len(notes.texts) == told


@pytest.mark.parametrize(("file", "damage"), [("graphs.json", "cut"), ("unet.bin", "gone")])
def test_a_damaged_cache_is_made_again(
    tiny_folder: Path, graphs: Path, file: str, damage: str
) -> None:
    source, notes, image = resolve(str(tiny_folder), MODEL), Notes(), _random(1, 3, 32, 32)
    whole = _executor(source, graphs, notes)
    latent = whole.restore_latent(image)
    # Made ready meanwhile: what is damaged next must not be what it is made of.
    whole.decode(latent)
    assert notes.texts == []
    if damage == "cut":
        content = (graphs / file).read_bytes()
        (graphs / file).write_bytes(content[: len(content) // 2])
    else:
        (graphs / file).unlink()
    # What is compiled needs no graph.
    assert np.array_equal(_executor(source, graphs, notes).restore_latent(image), latent)
    assert notes.texts == []
    wider = _random(1, 3, 32, 64)
    anew = _executor(source, graphs, notes)
    wide = anew.restore_latent(wider)
    anew.decode(wide)
    assert len(notes.texts) == 2
    assert ("damaged" if damage == "cut" else "missing") in notes.texts[0]
    again = _executor(source, graphs, notes)
    assert np.array_equal(again.restore_latent(wider), wide)
    assert np.array_equal(again.restore_latent(image), latent)
    assert len(notes.texts) == 2


def test_a_damaged_compiled_graph_is_compiled_again(tiny_folder: Path, graphs: Path) -> None:
    source, notes, image = resolve(str(tiny_folder), MODEL), Notes(), _random(1, 3, 32, 32)
    executor = _executor(source, graphs, notes)
    result = executor.decode(executor.restore_latent(image))
    for path in (graphs / "compiled").glob("*.blob"):
        path.write_bytes(path.read_bytes()[:-100])
    for path in (graphs / "compiled").glob("unet*.json"):
        path.write_text(json.dumps({"sha256": 3}))
    again = _executor(source, graphs, notes)
    assert np.array_equal(again.decode(again.restore_latent(image)), result)
    assert all("is damaged, compiling again" in note for note in notes.texts)
    assert len(notes.texts) == 3


def test_few_sizes_stay_on_disk(tiny_folder: Path, graphs: Path) -> None:
    executor = _executor(resolve(str(tiny_folder), MODEL), graphs, Notes())
    for side in range(KEPT_SIZES + 2):
        executor.decode(_random(1, 4, 4, 4 + 2 * side))
    names = [path.name for path in (graphs / "compiled").glob("decoder-*")]
    assert len(names) == 2 * KEPT_SIZES
    assert not any("1x4x4x4-" in name for name in names)


def test_a_cache_that_cannot_be_written_is_done_without(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    notes = Notes()
    executor = _executor(resolve(str(tiny_folder), MODEL), tmp_path / "file" / "graphs", notes)
    assert executor.restore_latent(_random(1, 3, 16, 16)).shape == (1, 4, 4, 4)
    assert [text.partition(" ")[0] for text in notes.texts] == ["converting", "cannot"]


def test_threads_share_the_cores_and_come_to_the_same(tiny_folder: Path, graphs: Path) -> None:
    alone = _executor(resolve(str(tiny_folder), MODEL), graphs, Notes())
    shared = alone.shared(2)
    images = [_random(1, 3, 32, 32) for _ in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: shared.decode(shared.restore_latent(image)), images))
    for image, result in zip(images, found, strict=True):
        wanted = alone.decode(alone.restore_latent(image))
        np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-4)
    kept = {path.stem for path in (graphs / "compiled").glob("unet-*.blob")}
    assert kept == {"unet-1x4x8x8-fp32", "unet-1x4x8x8-fp32-2"}
    # From the cache they come in the same number.
    again = _executor(resolve(str(tiny_folder), MODEL), graphs, Notes()).shared(2)
    with ThreadPoolExecutor(2) as pool:
        latents = list(pool.map(again.restore_latent, images[:2]))
    for image, latent in zip(images, latents, strict=False):
        assert np.array_equal(latent, shared.restore_latent(image))
    for future in again._compiled._by_name.values():
        model = future.result().requests.get().get_compiled_model()
        assert model.get_property("ENABLE_CPU_PINNING") is False


def test_the_encoder_runs_while_the_unet_is_taken_in(
    tiny_folder: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = threading.Event()

    def wait(path: Path, settings: dict[str, str]) -> Any:
        assert not path.name.startswith("unet") or encoded.wait(30)
        return take_in(path, settings)

    def tell(request: Any, x: Array, keeps_memory: bool) -> Array:
        result = infer(request, x, keeps_memory)
        encoded.set()
        return result

    take_in, infer = openvino_executor.import_mapped, openvino_executor._infer
    monkeypatch.setattr(openvino_executor, "import_mapped", wait)
    monkeypatch.setattr(openvino_executor, "_infer", tell)
    executor = _executor(resolve(str(tiny_folder), MODEL), graphs, Notes())
    assert executor.restore_latent(_random(1, 3, 32, 32)).shape == (1, 4, 8, 8)


def test_memory_of_large_activations_is_given_back(
    tiny_folder: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = _executor(resolve(str(tiny_folder), MODEL), graphs, Notes())
    kept: list[bool] = []

    def note(request: Any, x: Array, keeps_memory: bool) -> Array:
        kept.append(keeps_memory)
        return infer(request, x, keeps_memory)

    infer = openvino_executor._infer
    monkeypatch.setattr(openvino_executor, "_infer", note)
    image = _random(1, 3, 32, 32)
    executor.decode(executor.restore_latent(image))
    side = 32 // executor.description.patch_size
    largest = 4 * max(executor.description.vae["block_out_channels"]) * side**2
    for small in (largest, largest - 1):
        monkeypatch.setattr(openvino_executor, "SMALL_BYTES", small)
        executor.decode(executor.restore_latent(image))
    assert kept == [True] * 6 + [False, True, False]


def test_both_forms_report_all_kernels(calibrate: Callable[..., str], tmp_path: Path) -> None:
    alone = _executor(resolve(calibrate("w8a8"), CHECKPOINT), tmp_path / "graphs", Notes())
    shared = alone.shared(2)
    shared.restore_latent(_random(1, 3, 32, 32))
    assert alone.kernels() == shared.kernels()
    assert alone.kernels().integer


_SEVERAL_EXECUTORS = """
import gc, signal, sys
import numpy as np
from pathlib import Path
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.graphs.graph_cache import GraphCache
from passionsr_cli.inference.openvino_executor import OpenVINOExecutor
from passionsr_cli.progress import SILENT

source = resolve(sys.argv[1])
executors = []
for number in range(3):
    graphs = GraphCache(Path(sys.argv[2]), source.load, SILENT)
    executors.append(OpenVINOExecutor(source.description, graphs, "fp32"))
    executors[-1].restore_latent(np.zeros((1, 3, 32, 32), np.float32))
while executors:
    executors.pop(0)
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_still_stops_after_several_executors(tiny_folder: Path, graphs: Path) -> None:
    """OpenVINO's plugin sets a stack for signals; loaded twice, and unloaded in the order of
    loading, it leaves one that is gone. In a process of its own: the next signal ends it."""
    command = [sys.executable, "-c", _SEVERAL_EXECUTORS, str(tiny_folder), str(graphs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("interrupted\n")
