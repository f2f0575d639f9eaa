"""Exports that were killed, and go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reporting import Kill

from passionsr_cli import api
from passionsr_cli.conversion import graph_files, onnx_files
from passionsr_cli.exports import fidelity
from passionsr_cli.progress import Notes

WRITERS: dict[str, Any] = {"openvino": graph_files, "onnx": onnx_files}
COMPONENTS = ["encoder", "unet", "decoder"]


class Watch:
    """Hears which components are written, and whether the definition runs; ends the work where a
    component is written but not listed yet, or where all of them run."""

    def __init__(self, patch: pytest.MonkeyPatch, form: str, moment: str = "never") -> None:
        self.written: list[str] = []
        self.defined = False
        listed, psnr = WRITERS[form].list_component, fidelity.psnr
        compare = fidelity.Definition.compare

        def list_component(folder: Path, component: str, names: Any) -> None:
            if component == moment:
                raise Kill
            self.written.append(component)
            listed(folder, component, names)

        def compared(definition: Any, executor: Any) -> Any:
            if moment == "running":
                raise Kill
            return compare(definition, executor)

        def nearness(*images: Any) -> float | None:
            # Only the definition is compared with itself before anything is written.
            self.defined = self.defined or not self.written
            return psnr(*images)

        patch.setattr(WRITERS[form], "list_component", list_component)
        patch.setattr(fidelity.Definition, "compare", compared)
        patch.setattr(fidelity, "psnr", nearness)


def _export(source: str, form: str, out: Path, size: int = 64) -> tuple[dict[str, Any], list[str]]:
    """The files of an export, with what its report says each time, and what was told."""
    notes = Notes()
    api.export(source, form, out, size=size, reporter=notes)
    files: dict[str, Any] = {path.name: path.read_bytes() for path in out.iterdir()}
    report = json.loads(files["report.json"])
    for varying in ("seconds", "peak_memory_bytes", "output"):
        del report[varying]
    # Nothing is left beside it.
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
    return {**files, "report.json": report}, notes.texts


def _kill(source: str, form: str, out: Path, moment: str) -> Path:
    """Kill an export; gives the folder that it leaves."""
    with pytest.MonkeyPatch.context() as patch:
        Watch(patch, form, moment)
        with pytest.raises(Kill):
            _export(source, form, out)
    assert not out.exists()
    return out.with_name(f".{out.name}.exporting") / "unfinished"


@pytest.fixture
def source(calibrate: Callable[..., str]) -> str:
    return calibrate("w4a6")


@pytest.mark.parametrize(
    ("form", "moments"),
    [("openvino", {"unet": COMPONENTS[1:], "running": []}), ("onnx", {"decoder": ["decoder"]})],
)
def test_a_killed_export_writes_what_is_missing(
    source: str, form: str, moments: dict[str, list[str]], tmp_path: Path
) -> None:
    wanted, told = _export(source, form, tmp_path / "undisturbed")
    assert told == []
    for moment, missing in moments.items():
        out = tmp_path / moment
        left = _kill(source, form, out, moment)
        with pytest.MonkeyPatch.context() as patch:
            watch = Watch(patch, form)
            found, told = _export(source, form, out)
        assert found == wanted
        assert (watch.written, told) == (missing, ["going on with the export that was stopped"])
        assert not (missing and watch.defined)
        # As after a kill behind the renaming: it is finished, and the rest goes.
        left.mkdir(parents=True)
        _export(source, form, out)


def test_what_a_link_leads_to_is_no_unfinished_export(source: str, tmp_path: Path) -> None:
    left = _kill(source, "openvino", tmp_path / "out", "unet")
    elsewhere = (left / "files").rename(tmp_path / "elsewhere")
    (left / "files").symlink_to(elsewhere)
    there = {path.name for path in elsewhere.iterdir()}
    assert _export(source, "openvino", tmp_path / "out")[1] == []
    assert not (tmp_path / "out").is_symlink()
    assert {path.name for path in elsewhere.iterdir()} == there


@pytest.mark.parametrize(
    ("damaged", "size", "written"),
    [
        ("files/encoder.bin", 64, COMPONENTS),
        ("definition.npz", 64, ["decoder"]),
        ("made_by.json", 64, COMPONENTS),
        (None, 72, COMPONENTS),
    ],
)
def test_what_is_damaged_or_another_exports_is_written_again(
    source: str,
    damaged: str | None,
    size: int,
    written: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = _kill(source, "openvino", tmp_path / "out", "decoder")
    if damaged is not None:
        (left / damaged).write_bytes((left / damaged).read_bytes()[:-1])
    watch = Watch(monkeypatch, "openvino")
    _export(source, "openvino", tmp_path / "out", size)
    assert watch.written == written
    assert watch.defined == (damaged != "files/encoder.bin")
