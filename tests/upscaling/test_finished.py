"""The same command again: results that are there already are known."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from reporting import Heard, Kill

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.upscaling.finished import FOLDER, REMEMBERED_DAYS, Finished, line_of
from passionsr_cli.upscaling.images import Done, Failed, Skipped
from passionsr_cli.upscaling.planning import Job
from passionsr_cli.upscaling.run import noting, upscale


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def image(photographs: Path) -> Path:
    return photographs / "00.png"


def _upscaled(image: Path, settings: UpscaleSettings, **changes: object) -> object:
    (outcome,) = upscale([str(image)], settings.model_copy(update=changes))
    return outcome


def test_a_single_image_again_is_finished_already(
    image: Path, settings: UpscaleSettings, tmp_path: Path
) -> None:
    result = tmp_path / "b.png"
    assert isinstance(_upscaled(image, settings, output=result), Done)
    written = result.stat().st_mtime_ns
    assert isinstance(_upscaled(image, settings, output=result), Skipped)
    assert result.stat().st_mtime_ns == written
    assert isinstance(_upscaled(image, settings, output=result, overwrite=True), Done)
    # Nothing but the result is left beside it.
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_beside_the_renaming_leaves_no_stranger(
    image: Path,
    settings: UpscaleSettings,
    tmp_path: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, replace = tmp_path / "b.png", os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target) == result and moment == "before":
            raise Kill
        replace(source, target)
        if Path(target) == result:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr("passionsr_cli.system.files.os.replace", killed)
        with pytest.raises(Kill):
            _upscaled(image, settings, output=result)
    outcome = _upscaled(image, settings, output=result)
    assert isinstance(outcome, Skipped if moment == "after" else Done)


@pytest.mark.parametrize("changed", ["source", "result", "settings", "forgotten"])
def test_what_has_changed_is_not_finished(
    image: Path, settings: UpscaleSettings, tmp_path: Path, changed: str
) -> None:
    result, changes = tmp_path / "b.png", {"output": tmp_path / "b.png"}
    _upscaled(image, settings, **changes)
    if changed == "settings":
        changes["color_fix"] = "adain"  # type: ignore[assignment]
    elif changed == "forgotten":
        for path in (cache_folder() / FOLDER).iterdir():
            path.unlink()
    else:
        os.utime(image if changed == "source" else result, (1, 1))
    outcome = _upscaled(image, settings, **changes)
    assert isinstance(outcome, Failed)
    assert outcome.error.endswith("use --overwrite, --skip-existing or another --output")


@pytest.mark.parametrize("together", [False, True])
def test_what_changes_while_it_is_worked_on_is_not_finished(
    image: Path, settings: UpscaleSettings, tmp_path: Path, together: bool
) -> None:
    class Changing(Heard):
        def started(self, task: str, total: float | None = None) -> None:
            os.utime(image, (1, 1))

    # A folder's results have a journal.
    inputs = str(image.parent / "0[0-3].png" if together else image)
    assert isinstance(next(upscale(inputs, settings, Changing())), Done)
    assert isinstance(next(upscale(inputs, settings)), Failed)


def test_several_images_without_a_folder_of_their_own(
    photographs: Path, settings: UpscaleSettings
) -> None:
    beside = settings.model_copy(update={"output": None})
    inputs = [str(photographs / "00.png"), str(photographs / "summer" / "01.png")]
    assert [type(each) for each in upscale(inputs, beside)] == [Done, Done]
    assert [type(each) for each in upscale(inputs, beside)] == [Skipped, Skipped]
    # One of them alone is known by the same folder.
    assert [type(each) for each in upscale(inputs[1:], beside)] == [Skipped]


def test_runs_at_the_same_time_forget_nothing_of_each_other(tmp_path: Path) -> None:
    results = [tmp_path / f"{number}.png" for number in range(8)]
    for result in results:
        result.write_bytes(result.name.encode())

    def run(result: Path) -> None:
        noting("mini")(Job("sample:coffee", result), None, result)

    with ThreadPoolExecutor(len(results)) as pool:
        list(pool.map(run, results))
    found = Finished(tmp_path, "mini")
    assert [found.holds("sample:coffee", result) for result in results] == [True] * len(results)


def test_folders_that_nobody_used_for_long_are_forgotten(tmp_path: Path) -> None:
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "b.png").write_bytes(name.encode())
        line = line_of("mini", "sample:coffee", None, folder / "b.png", folder / "b.png")
        Finished(folder, "mini").note([line])
        if name == "old":
            (file,) = (cache_folder() / FOLDER).glob("*.jsonl")
            long_ago = time.time() - (REMEMBERED_DAYS + 1) * 86400
            os.utime(file, (long_ago, long_ago))
    found = [
        Finished(tmp_path / name, "mini").holds("sample:coffee", tmp_path / name / "b.png")
        for name in ("old", "new")
    ]
    assert found == [False, True]


def test_a_cache_that_cannot_be_written_is_no_error(
    image: Path, settings: UpscaleSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "file"))
    assert isinstance(_upscaled(image, settings, output=tmp_path / "b.png"), Done)
    assert isinstance(_upscaled(image, settings, output=tmp_path / "b.png"), Failed)
