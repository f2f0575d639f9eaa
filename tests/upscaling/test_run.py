from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging import png
from passionsr_cli.progress import Notes, Reporter
from passionsr_cli.system.processes import Processes
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling import images, run
from passionsr_cli.upscaling.images import Done, Failed, Outcome, Skipped, open_upscaler
from passionsr_cli.upscaling.planning import Job, Refused
from passionsr_cli.upscaling.run import Outcomes, plan_work, upscale_planned


class OneOf(Processes):
    """One of several processes that need not wait for the others."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    def wait(self) -> None:
        pass


def _run(
    upscaler: TiledUpscaler,
    folder: Path,
    settings: UpscaleSettings,
    processes: Processes | None = None,
) -> Outcomes:
    work = plan_work([str(folder)], settings)
    return upscale_planned(upscaler, work, settings, processes=processes or OneOf())


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _results(settings: UpscaleSettings) -> set[Path]:
    assert settings.output is not None
    return set(settings.output.rglob("*_x4.png"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The sources of the images that were computed."""
    sources: list[str] = []
    whole = images.upscale_file

    def counted(upscaler: Any, job: Any, *rest: Any, **named: Any) -> Done:
        done = whole(upscaler, job, *rest, **named)
        sources.append(job.source)
        return done

    monkeypatch.setattr(images, "upscale_file", counted)
    return sources  # type: ignore[return-value]


@pytest.fixture
def undisturbed(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings, tmp_path: Path
) -> dict[str, bytes]:
    """What one process makes of the photographs in one go."""
    folder = tmp_path / "undisturbed"
    list(_run(upscaler, photographs, settings.model_copy(update={"output": folder})))
    return _files(folder)


def test_a_tree_is_mirrored_and_litter_left_alone(undisturbed: dict[str, bytes]) -> None:
    places = ("", "summer/", "summer/sea/")
    assert set(undisturbed) == {f"{places[i % 3]}{i:02d}_x4.png" for i in range(11)}


def test_a_full_disk_is_told_of_the_result_that_was_wanted(
    upscaler: TiledUpscaler,
    photographs: Path,
    settings: UpscaleSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*anything: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(png, "write", full)
    first, *_ = _run(upscaler, photographs, settings)
    assert isinstance(first, Failed)
    assert f"{settings.output}/00_x4.png: the disk is full" in first.error
    assert ".passionsr" not in first.error


def test_a_person_hears_of_a_photograph_that_lacks_its_end(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.jpg"
    Image.open(photographs / "00.png").save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-2])
    notes, results = Notes(), []
    for source in (whole, cut):
        job = Job(str(source), tmp_path / f"{source.stem}.png")
        images.upscale_file(upscaler, job, settings, notes)
        results.append(job.output.read_bytes())
    assert results[0] == results[1]
    assert notes.texts == [f"{cut}: lacks its end, though no pixel; read as it is"]


def test_outcomes_are_in_the_order_of_the_plan_and_failures_are_told(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings
) -> None:
    (photographs / "03.png").write_bytes(b"no photograph")
    found = list(_run(upscaler, photographs, settings))
    assert [item.source for item in found] == sorted(
        (item.source for item in found), key=lambda name: (name.count("/"), name)
    )
    (failed,) = (item for item in found if isinstance(item, Failed))
    assert "03.png: not an image file" in failed.error
    assert sum(isinstance(item, Done) for item in found) == 10


def test_seconds_of_images_add_up_to_those_of_the_run(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings
) -> None:
    """Though two are worked on at once, of which one waits for the model."""
    began = time.perf_counter()
    seconds = [done.seconds for done in _run(upscaler, photographs, settings)]  # type: ignore[union-attr]
    passed = time.perf_counter() - began
    assert min(seconds) > 0
    assert sum(seconds) < passed


def test_an_interrupted_run_goes_on_where_it_was(
    upscaler: TiledUpscaler,
    photographs: Path,
    settings: UpscaleSettings,
    undisturbed: dict[str, bytes],
    computed: list[str],
) -> None:
    outcomes: list[Outcome] = []
    for stop_after in (2, 1, 3):
        run = _run(upscaler, photographs, settings)
        for _ in range(stop_after):
            next(run)
        run.close()
    outcomes = list(_run(upscaler, photographs, settings))
    assert _files(settings.output) == undisturbed  # type: ignore[arg-type]
    assert any(isinstance(item, Skipped) for item in outcomes)
    # What was finished before a stop is not computed again.
    assert len(computed) == len(set(computed)) == 11


def test_a_dropped_run_does_not_wait_for_a_conversion(
    upscaler: TiledUpscaler,
    photographs: Path,
    settings: UpscaleSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = images.upscale_file
    converted, waiting, waited_for = (threading.Event() for _ in range(3))
    planned = plan_work([str(photographs)], settings).planned
    first = next(item.source for item in planned if isinstance(item, Job))

    def only_the_first(upscaler: Any, job: Any, *rest: Any, **named: Any) -> Done:
        if job.source != first:
            waiting.set()
            if not converted.wait(20):
                waited_for.set()
        return whole(upscaler, job, *rest, **named)

    monkeypatch.setattr(images, "upscale_file", only_the_first)
    monkeypatch.setattr("passionsr_cli.upscaling.run.DROPPED_WITHIN_SECONDS", 0.1)
    run = _run(upscaler, photographs, settings)
    next(run)
    assert waiting.wait(50)
    run.close()
    assert not waited_for.is_set()
    left = _results(settings)
    converted.set()
    for thread in threading.enumerate():
        if thread.name.startswith("image"):
            thread.join()
    # What comes too late is dropped, too.
    assert _results(settings) == left


def test_several_processes_make_what_one_makes(
    upscaler: TiledUpscaler,
    photographs: Path,
    settings: UpscaleSettings,
    undisturbed: dict[str, bytes],
    computed: list[str],
) -> None:
    """The first comes last: it takes the journal away when all are through."""
    parts = [list(_run(upscaler, photographs, settings, OneOf(rank, 3))) for rank in (2, 1, 0)]
    assert _files(settings.output) == undisturbed  # type: ignore[arg-type]
    assert len(computed) == len(set(computed)) == sum(map(len, parts)) == 11


def test_the_same_command_has_nothing_to_do_when_the_work_is_done(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings, computed: list[str]
) -> None:
    list(_run(upscaler, photographs, settings))
    assert {type(item) for item in _run(upscaler, photographs, settings)} == {Skipped}
    assert len(computed) == 11
    again = settings.model_copy(update={"overwrite": True})
    assert {type(item) for item in _run(upscaler, photographs, again)} == {Done}


def test_results_of_others_are_not_taken_for_ones_own(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings
) -> None:
    precious = settings.output / "summer" / "01_x4.png"  # type: ignore[operator]
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    found = {Path(item.source).name: item for item in _run(upscaler, photographs, settings)}
    assert isinstance(found["01.png"], Failed)
    assert "exists already; use --overwrite" in found["01.png"].error
    assert precious.read_bytes() == b"precious"
    again = settings.model_copy(update={"skip_existing": True})
    assert {type(item) for item in _run(upscaler, photographs, again)} == {Skipped}
    again = settings.model_copy(update={"overwrite": True})
    assert {type(item) for item in _run(upscaler, photographs, again)} == {Done}
    assert precious.read_bytes() != b"precious"


def test_other_settings_do_not_go_on_with_what_these_made(
    upscaler: TiledUpscaler, photographs: Path, settings: UpscaleSettings
) -> None:
    run = _run(upscaler, photographs, settings)
    next(run)
    run.close()
    others = plan_work([str(photographs)], settings.model_copy(update={"color_fix": "adain"}))
    (refused,) = {type(item).__name__ for item in others.planned} - {"Job"}
    assert refused == "Refused"


def test_results_of_two_settings_of_a_dial_are_not_mixed(
    photographs: Path, settings: UpscaleSettings, dial_folder: Path
) -> None:
    faithful, natural = (
        settings.model_copy(update={"model": str(dial_folder), "realism": realism})
        for realism in (0.0, 1.0)
    )
    run = _run(open_upscaler(faithful), photographs, faithful)
    done = next(run)
    run.close()
    assert isinstance(done, Done)
    assert {type(item).__name__ for item in plan_work([str(photographs)], faithful).planned} == {
        "Job",
        "Present",
    }
    refused = [
        item.source
        for item in plan_work([str(photographs)], natural).planned
        if isinstance(item, Refused)
    ]
    assert done.source in refused


def test_a_dial_that_is_not_there_is_said_before_any_work(
    photographs: Path, settings: UpscaleSettings
) -> None:
    with pytest.raises(ConfigError, match="'tiny' has no dial for realism; models that have one:"):
        plan_work([str(photographs)], settings.model_copy(update={"realism": 0.5}))


def test_an_only_image_is_known_before_the_model_is_opened(
    photographs: Path, settings: UpscaleSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of it alone, a large model's halves need not be in memory together."""
    told: list[bool] = []

    def opened(settings: UpscaleSettings, reporter: Reporter, is_only: bool) -> TiledUpscaler:
        told.append(is_only)
        raise ConfigError("enough is known")

    monkeypatch.setattr(run, "open_upscaler", opened)
    one = str(sorted(photographs.rglob("*.png"))[0])
    for inputs in ([one], [str(photographs)]):
        with pytest.raises(ConfigError, match="enough is known"):
            run.upscale(inputs, settings)
    assert told == [True, False]
