from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import openvino
import pytest
from reporting import Kill

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.conversion import graph_files
from passionsr_cli.graphs.graph_cache import GraphCache
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.store import MODEL
from passionsr_cli.system.claims import alone
from passionsr_cli.system.files import drop_unfinished


def test_of_several_that_need_graphs_one_converts(least_folder: Path, tmp_path: Path) -> None:
    source, loaded = resolve(str(least_folder), MODEL), []
    both = threading.Barrier(2)

    def load() -> OneStepModel:
        loaded.append(threading.get_ident())
        return source.load()

    def need() -> None:
        cache = GraphCache(tmp_path / "graphs", load, SILENT)
        both.wait()
        cache.graph("unet")

    threads = [threading.Thread(target=need) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert {path.name for path in tmp_path.iterdir() if "graphs" in path.name} == {"graphs"}


def test_another_models_conversion_is_not_waited_for_and_the_same_ones_with_a_word(
    least_folder: Path, tmp_path: Path
) -> None:
    source, notes = resolve(str(least_folder), MODEL), Notes()
    with alone(tmp_path / ".graphs", "converts this model", SILENT):
        other = GraphCache(tmp_path / "other", source.load, notes)
        other.graph("unet")
        assert not [text for text in notes.texts if "waiting" in text]
        waiting = threading.Thread(
            target=GraphCache(tmp_path / "graphs", source.load, notes).graph, args=("unet",)
        )
        waiting.start()
        ended = time.monotonic() + 30
        while not any("waiting" in text for text in notes.texts) and time.monotonic() < ended:
            time.sleep(0.01)
        assert notes.texts[-1] == "another process converts this model; waiting for it"
        # As the other one does.
        shutil.copytree(tmp_path / "other", tmp_path / "graphs")
    waiting.join()
    assert {path.name for path in tmp_path.glob("*graphs*")} == {"graphs"}


def test_a_full_disk_is_done_without(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = openvino.save_model

    def full(model: Any, path: Path, **options: Any) -> None:
        if tmp_path in Path(path).parents:
            raise RuntimeError("basic_ios::clear: iostream error")
        save(model, path, **options)

    monkeypatch.setattr(openvino, "save_model", full)
    source, notes = resolve(str(least_folder), MODEL), Notes()
    cache = GraphCache(tmp_path / "cache" / "graphs", source.load, notes)
    assert cache.graph("unet").path.exists()
    assert f"cannot cache under {tmp_path / 'cache'}: basic_ios::clear" in notes.texts[-1]
    assert list((tmp_path / "cache").iterdir()) == []
    # As at Ctrl-C.
    drop_unfinished()
    assert not cache.folder.exists()


def test_a_killed_conversion_goes_on(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, listed = resolve(str(least_folder), MODEL), []
    real = graph_files.list_component

    def listing(folder: Path, component: str, names: Any) -> None:
        if listed == ["encoder"]:
            listed.append("killed")
            raise Kill
        listed.append(component)
        real(folder, component, names)

    monkeypatch.setattr(graph_files, "list_component", listing)
    with pytest.raises(Kill):
        GraphCache(tmp_path / "graphs", source.load, SILENT).graph("unet")
    GraphCache(tmp_path / "graphs", source.load, SILENT).graph("unet")
    assert listed == ["encoder", "killed", "unet", "decoder"]
    GraphCache(tmp_path / "undisturbed", source.load, SILENT).graph("unet")
    found, wanted = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("graphs", "undisturbed")
    )
    assert found == wanted
    assert {path.name for path in tmp_path.glob("*graphs*")} == {"graphs"}


def test_a_link_in_the_place_of_a_killed_conversion_is_not_followed(
    least_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".graphs").symlink_to(tmp_path / "elsewhere")
    GraphCache(tmp_path / "graphs", resolve(str(least_folder), MODEL).load, SILENT).graph("unet")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "graphs").is_symlink()


def test_what_cannot_be_reached_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    reporter = Notes()
    cache = GraphCache(tmp_path / "loop" / "graphs", resolve("mini", MODEL).load, reporter)
    assert cache.compiled("unet") is None
    assert reporter.texts == []


def test_full_memory_is_no_full_disk(least_folder: Path, tmp_path: Path) -> None:
    asked = []

    def load() -> OneStepModel:
        asked.append(1)
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")

    with pytest.raises(RuntimeError, match="not enough memory"):
        GraphCache(tmp_path / "graphs", load, SILENT).graph("unet")
    assert len(asked) == 1


def test_graphs_that_go_while_they_are_in_use_are_made_again(
    least_folder: Path, tmp_path: Path
) -> None:
    source, notes = resolve(str(least_folder), MODEL), Notes()
    cache = GraphCache(tmp_path / "graphs", source.load, notes)
    assert cache.graph("unet").path.exists()
    shutil.rmtree(tmp_path / "graphs")
    assert cache.graph("unet").path.exists()
    assert len(notes.texts) == 2
