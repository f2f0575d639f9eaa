from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from passionsr_cli.errors import OutputError
from passionsr_cli.system import claims
from passionsr_cli.system.claims import claim, holder, make_own_folder, new_temporary_folder

HOLD = """
import sys, time
from pathlib import Path
from passionsr_cli.system.claims import claim
with claim(Path(sys.argv[1]), "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_says_who_holds_it_and_ends_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert holder(folder) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        told = holder(folder)
        assert told is not None
        assert told.startswith(f"process {process.pid} on ")
        assert ", training since " in told
        refused = pytest.raises(OutputError, match=f"process {process.pid} .* holds it; wait for")
        with refused, claim(folder, "calibrating"):
            pass
        process.send_signal(signal.SIGKILL)
    assert holder(folder) is None
    with claim(folder, "calibrating"):
        assert "calibrating" in str(holder(folder))
    assert not folder.exists()


def test_what_was_begun_stays(tmp_path: Path) -> None:
    with claim(tmp_path / "run", "training"):
        (tmp_path / "run" / "state").write_text("half way")
    assert holder(tmp_path / "run") is None
    assert (tmp_path / "run" / "state").read_text() == "half way"


def test_an_error_of_the_work_itself_passes(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the work"), claim(tmp_path, "upscaling"):
        raise OSError("of the work")
    assert holder(tmp_path) is None


@pytest.mark.parametrize("name", ["holder.json", "0.jsonl", "state"])
def test_a_link_within_is_not_followed(tmp_path: Path, name: str) -> None:
    letter = tmp_path / "letter"
    letter.write_text("keep me")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(letter)
    refused = pytest.raises(OutputError, match=f"{name} is a link, which passionsr did not make")
    with refused, claim(tmp_path / "run", "upscaling"):
        (tmp_path / "run" / name).write_text("spoilt")
    assert letter.read_text() == "keep me"


def test_a_file_in_the_folder_s_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="must be a folder"):
        make_own_folder(tmp_path / "run")


@pytest.mark.parametrize("removed", [False, True])
def test_who_only_asks_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """And who has just come to an end, and removed the folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    asking = FileLock(folder / "lock")
    asking.acquire()

    def answered(seconds: float) -> None:
        if removed:
            shutil.rmtree(folder)
        asking.release()

    monkeypatch.setattr(claims.time, "sleep", answered)
    with claim(folder, "training"):
        assert "training" in str(holder(folder))


def test_a_folder_that_another_has_just_made_is_not_left_behind(tmp_path: Path) -> None:
    begun, left, killed = (new_temporary_folder(tmp_path, "made-") for _ in range(3))
    os.utime(left, (0, 0))
    (killed / "lock").touch()
    with claim(new_temporary_folder(tmp_path, "made-"), "serving"):
        assert begun.exists()
        assert not left.exists()
        assert not killed.exists()
