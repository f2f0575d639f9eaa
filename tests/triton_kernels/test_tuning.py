from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from triton.runtime.errors import OutOfResources

from passionsr_cli.triton_kernels.tuning import Blocks, Tuning

SMALL, MIDDLE, LARGE = (Blocks(size, size, size, 4, 2) for size in (32, 64, 128))
CHOICES = (SMALL, MIDDLE, LARGE)


class _Clock:
    """Times launches: those of the middle are the fastest, large ones do not fit."""

    def __init__(self) -> None:
        self.launched: list[Blocks] = []

    def launch(self, blocks: Blocks) -> None:
        self.launched.append(blocks)
        if blocks == LARGE:
            raise OutOfResources(200, 99, "shared memory")

    def seconds(self, run: Callable[[], None]) -> float:
        run()
        return {SMALL: 2.0, MIDDLE: 1.0}[self.launched[-1]]


def test_the_fastest_is_found_once_and_kept(tmp_path: Path) -> None:
    path, clock = tmp_path / "new" / "blocks.json", _Clock()
    tuning = Tuning(path, clock.seconds)
    assert tuning.choose("multiply", (320, 3), CHOICES, clock.launch) == MIDDLE
    assert clock.launched == [SMALL, MIDDLE, LARGE]
    assert tuning.choose("multiply", (320, 3), CHOICES, clock.launch) == MIDDLE
    again = Tuning(path, clock.seconds)
    assert again.choose("multiply", (320, 3), CHOICES, clock.launch) == MIDDLE
    assert len(clock.launched) == 3
    # Another case, another kernel, and choices that no longer hold what was found.
    again.choose("multiply", (320, 1), CHOICES, clock.launch)
    again.choose("attention", (320, 3), CHOICES, clock.launch)
    assert again.choose("multiply", (320, 3), (SMALL,), clock.launch) == SMALL
    assert len(clock.launched) == 10


def test_what_other_processes_found_stays(tmp_path: Path) -> None:
    path, clock = tmp_path / "blocks.json", _Clock()
    one, other = Tuning(path, clock.seconds), Tuning(path, clock.seconds)
    one.choose("multiply", (1,), CHOICES, clock.launch)
    other.choose("multiply", (2,), CHOICES, clock.launch)
    assert sorted(json.loads(path.read_text())) == ["multiply 1", "multiply 2"]


@pytest.mark.parametrize("text", ["", "[1]", '{"multiply 1": 3}', '{"multiply 1": ["a"]}'])
def test_a_file_that_says_nothing_is_made_anew(text: str, tmp_path: Path) -> None:
    path, clock = tmp_path / "blocks.json", _Clock()
    path.write_text(text)
    tuning = Tuning(path, clock.seconds)
    assert tuning.choose("multiply", (1,), CHOICES, clock.launch) == MIDDLE
    assert json.loads(path.read_text()) == {"multiply 1": list(MIDDLE)}


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock = _Clock()
    tuning = Tuning(tmp_path / "file" / "blocks.json", clock.seconds)
    assert tuning.choose("multiply", (1,), CHOICES, clock.launch) == MIDDLE


def test_a_gpu_that_fits_none_says_so(tmp_path: Path) -> None:
    clock = _Clock()
    with pytest.raises(OutOfResources):
        Tuning(tmp_path / "blocks.json", clock.seconds).choose("a", (), (LARGE,), clock.launch)
