from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
from passionsr_cli.imaging.planning import Job, Refused, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "notes.txt", ".hidden.png", "a_x4.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def _plan(*inputs: object, output: Path | None = None, overwrite: bool = False):  # type: ignore[no-untyped-def]
    return plan([str(item) for item in inputs], output, "_x4", overwrite)


def test_a_folder_is_its_images_without_earlier_results(folder: Path) -> None:
    first, second = _plan(folder)
    assert isinstance(first, Refused)
    assert "exists already; use --overwrite" in str(first.error)
    assert second == Job(str(folder / "b.jpg"), folder / "b_x4.png")


def test_overwriting_is_allowed_on_request(folder: Path) -> None:
    assert all(isinstance(item, Job) for item in _plan(folder, overwrite=True))


def test_one_input_goes_to_the_file_named(folder: Path, tmp_path: Path) -> None:
    assert _plan(folder / "b.jpg", output=tmp_path / "out.webp") == [
        Job(str(folder / "b.jpg"), tmp_path / "out.webp")
    ]


def test_several_inputs_go_to_the_folder_named(folder: Path, tmp_path: Path) -> None:
    jobs = _plan(folder / "b.jpg", "sample:coffee", output=tmp_path / "out")
    assert [job.output for job in jobs] == [
        tmp_path / "out" / "b_x4.png",
        tmp_path / "out" / "coffee_x4.png",
    ]


def test_samples_go_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _plan("sample:coffee") == [Job("sample:coffee", Path("coffee_x4.png"))]


def test_two_inputs_never_share_a_result(folder: Path, tmp_path: Path) -> None:
    (folder / "b.webp").write_bytes(b"")
    _, second = _plan(folder / "b.jpg", folder / "b.webp", output=tmp_path / "out")
    assert isinstance(second, Refused)
    assert "is already that of" in str(second.error)


def test_the_input_is_never_replaced(folder: Path) -> None:
    (item,) = _plan(folder / "b.jpg", output=folder / "b.jpg", overwrite=True)
    assert isinstance(item, Refused)
    assert "would replace its own input" in str(item.error)


def test_missing_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing, empty = _plan(tmp_path / "none.png", tmp_path / "empty")
    assert "no such file" in str(missing.error)
    assert "no images in this folder" in str(empty.error)


def test_several_results_need_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"")
    with pytest.raises(OutputError, match="several results need a folder"):
        _plan(folder, output=tmp_path / "out.png")
    with pytest.raises(OutputError, match="cannot write"):
        _plan(folder / "b.jpg", output=tmp_path / "out.xyz")
