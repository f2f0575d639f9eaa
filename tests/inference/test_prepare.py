"""Graphs that entries bring along are those that conversion makes of their tensors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.conversion.graph_files import write_graphs
from passionsr_cli.conversion.openvino_graph import component_graph
from passionsr_cli.conversion.prepared_graphs import WEIGHTS_FILE, find_prepared, prepared_folder
from passionsr_cli.conversion.stored_graphs import read_graphs
from passionsr_cli.errors import StoreError
from passionsr_cli.inference.prepare import prepare
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.registry import EMBEDDED_CHECKPOINT, EMBEDDED_MODEL


def _completed(artifact: Artifact, saturating: bool, folder: Path) -> Path:
    found = find_prepared(artifact.entry, artifact.fingerprint, saturating)
    assert found is not None, "run `python -m passionsr_cli.inference.prepare`"
    folder.mkdir()
    found.complete(folder)
    return folder


def _operations(path: Path) -> list[tuple[str | None, dict[str, str]]]:
    """The layers of a graph in their order; names hold numbers that depend on what came before."""
    layers = ElementTree.parse(path).iter("layer")
    return [
        (layer.get("type"), {} if (data := layer.find("data")) is None else data.attrib)
        for layer in layers
    ]


def _equal(one: Path, other: Path) -> None:
    for component in COMPONENTS:
        weights = [(folder / f"{component}.bin").read_bytes() for folder in (one, other)]
        assert weights[0] == weights[1]
        assert _operations(one / f"{component}.xml") == _operations(other / f"{component}.xml")
    assert read_graphs(one).keys() == read_graphs(other).keys()
    for name, graph in read_graphs(one).items():
        again = read_graphs(other)[name]
        assert (graph.layers, graph.folded) == (again.layers, again.folded)
        assert (graph.attentions, graph.overflowing) == (again.attentions, again.overflowing)


@pytest.mark.parametrize(
    ("name", "saturating"),
    [(EMBEDDED_MODEL, False), (EMBEDDED_CHECKPOINT, False), (EMBEDDED_CHECKPOINT, True)],
)
def test_the_embedded_graphs_belong_to_their_weights(
    name: str, saturating: bool, tmp_path: Path
) -> None:
    """Fails when the weights, or what conversion makes of them, have changed since."""
    artifact = resolve(name)
    brought = _completed(artifact, saturating, tmp_path / "brought")
    made = tmp_path / "made"
    made.mkdir()
    convert = partial(component_graph, saturating=saturating)
    write_graphs(artifact.load(), made, convert=convert)
    _equal(brought, made)


@pytest.mark.parametrize("saturating", [False, True])
def test_integers_become_the_same_graphs(
    calibrate: Callable[..., str], saturating: bool, tmp_path: Path
) -> None:
    artifact = resolve(calibrate("w8a8"))
    prepare(artifact, saturating)
    # Nothing of the weights is there twice.
    recipe = json.loads((prepared_folder(artifact.entry, saturating) / WEIGHTS_FILE).read_text())
    forms = {piece[1] for of in recipe["weights"].values() for piece in of if len(piece) == 2}
    assert forms == {"float32", "dequantized" if saturating else "int8"}
    made = tmp_path / "made"
    made.mkdir()
    write_graphs(artifact.load(), made, convert=partial(component_graph, saturating=saturating))
    _equal(_completed(artifact, saturating, tmp_path / "brought"), made)


@pytest.fixture(scope="module")
def with_graphs(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with prepared graphs beside it."""
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    shutil.copytree(saved_models / "tiny", folder)
    prepare(resolve(str(folder)), False)
    return folder


@pytest.fixture
def prepared(with_graphs: Path, tmp_path: Path) -> Artifact:
    """A copy of it that a test may damage."""
    return resolve(str(shutil.copytree(with_graphs, tmp_path / "prepared")))


def test_graphs_of_other_weights_are_not_used(prepared: Artifact) -> None:
    assert find_prepared(prepared.entry, prepared.fingerprint, False) is not None
    assert find_prepared(prepared.entry, "of other weights", False) is None
    assert find_prepared(prepared.entry, prepared.fingerprint, True) is None
    (prepared_folder(prepared.entry, False) / WEIGHTS_FILE).write_text("{")
    assert find_prepared(prepared.entry, prepared.fingerprint, False) is None


@pytest.mark.parametrize("damage", ["cut", "gone", "of other tensors"])
def test_damage_is_named(prepared: Artifact, tmp_path: Path, damage: str) -> None:
    folder = prepared_folder(prepared.entry, False)
    graph, weights = folder / "unet.xml.gz", folder / WEIGHTS_FILE
    if damage == "cut":
        graph.write_bytes(graph.read_bytes()[:-200])
    elif damage == "gone":
        graph.unlink()
    else:
        weights.write_text(weights.read_text().replace("unet.conv_in.weight", "unet.conv.weight"))
    with pytest.raises(StoreError, match=r"graphs is damaged .*; install passionsr again"):
        _completed(prepared, False, tmp_path / "brought")


def test_weights_in_an_unknown_form_are_refused(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passionsr_cli.conversion.prepared_graphs.MOST_LITERAL_BYTES", 10)
    with pytest.raises(StoreError, match="bytes that are no tensors of 'tiny'"):
        prepare(resolve(str(tiny_folder)), False)
    assert not (tiny_folder / "graphs").exists()


# What is None in `sys.modules` cannot be imported.
_WITHOUT_TORCH = """
import sys
for name in ("torch", "diffusers", "accelerate", "transformers", "pyiqa", "torchvision"):
    sys.modules[name] = None
from passionsr_cli.cli.app import main
main()
"""


def _small(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command as it runs where torch is not installed."""
    command = [sys.executable, "-c", _WITHOUT_TORCH, *map(str, arguments)]
    environment = {**os.environ, "PASSIONSR_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("checkpoint", ["none", EMBEDDED_CHECKPOINT])
def test_the_first_picture_needs_no_torch(checkpoint: str, tmp_path: Path) -> None:
    output = tmp_path / "coffee.png"
    options = ("--checkpoint", checkpoint, "--device", "cpu", "--output", output)
    done = _small("upscale", "sample:coffee", *options, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "converting" not in done.stderr
    assert output.exists()


@pytest.mark.parametrize(
    "arguments", [("calibrate",), ("export", EMBEDDED_MODEL, "--format", "openvino")]
)
def test_what_needs_torch_says_so(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = _small(*arguments, cache=tmp_path / "cache")
    assert done.returncode == 1
    (line,) = done.stderr.split("error: ")[1].splitlines()
    assert line.startswith("this needs torch, which the small installation leaves out; `pip")
