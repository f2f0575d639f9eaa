from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import OutputError
from passionsr_cli.system.claims import holder
from passionsr_cli.system.files import temporary_beside
from passionsr_cli.upscaling.finished import Finished, identity
from passionsr_cli.upscaling.journal import Journal
from passionsr_cli.upscaling.planning import Job
from passionsr_cli.upscaling.run import plan_work, upscale


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = tmp_path / "in" / "a.png"
    source.parent.mkdir()
    source.write_bytes(b"a photograph")
    return Job(str(source), tmp_path / "out" / "sub" / "a_x4.png")


def _finish(journal: Journal, job: Job, content: bytes = b"a result") -> None:
    with journal.opened():
        place = journal.place_for(job.output)
        place.write_bytes(content)
        journal.finish(job, identity(job.source), place)


def _end(journal: Journal) -> None:
    with journal.opened():
        journal.close()


def _journal(job: Job, made_by: str = "mini", writer: str = "0") -> Journal:
    return Journal(job.output.parents[1], made_by, writer)


def test_what_is_finished_is_known_to_the_next_run(job: Job) -> None:
    assert not _journal(job).holds(job.source, job.output)
    _finish(_journal(job), job)
    assert job.output.read_bytes() == b"a result"
    assert _journal(job).holds(job.source, job.output)
    assert _journal(job, writer="1").holds(job.source, job.output)
    assert not _journal(job, made_by="another model").holds(job.source, job.output)


def test_a_result_goes_to_a_file_system_mounted_below(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def within_one(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", within_one)
    _finish(_journal(job), job)
    assert job.output.read_bytes() == b"a result"
    assert _journal(job).holds(job.source, job.output)
    _end(_journal(job))
    assert [path.name for path in job.output.parents[1].rglob("*")] == ["sub", "a_x4.png"]


@pytest.mark.parametrize("changed", ["source", "result", "gone"])
def test_what_has_changed_since_is_not_finished(job: Job, changed: str) -> None:
    _finish(_journal(job), job)
    if changed == "gone":
        job.output.unlink()
    else:
        path = job.output if changed == "result" else Path(job.source)
        path.write_bytes(b"something longer than before")
    assert not _journal(job).holds(job.source, job.output)


def test_a_result_without_its_name_is_not_finished(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process is killed between the line and the name."""
    job.output.parent.mkdir(parents=True)
    job.output.write_bytes(b"from before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda a, b: None)
        _finish(_journal(job), job)
    assert not _journal(job).holds(job.source, job.output)


def test_a_line_that_was_cut_short_spoils_no_other(job: Job) -> None:
    _finish(_journal(job), job)
    (file,) = _journal(job).folder.glob("*.jsonl")
    with file.open("ab") as end:
        end.write(b'\n{"made_by": "mi')
    second = Job(job.source, job.output.with_name("b_x4.png"))
    _finish(_journal(job), second)
    for each in (job, second):
        assert _journal(job).holds(each.source, each.output)


def test_half_files_of_a_killed_run_are_removed(job: Job) -> None:
    journal = _journal(job)
    with journal.opened():
        place = journal.place_for(job.output)
        place.write_bytes(b"without its name")
        temporary_beside(place).write_bytes(b"half")
    with journal.opened():
        assert {path.name for path in journal.folder.iterdir()} == {"lock", "holder.json"}


def test_one_run_at_a_time(job: Job) -> None:
    with (
        _journal(job).opened(),
        pytest.raises(OutputError, match=rf"process {os.getpid()} on .*, upscaling since"),
        _journal(job).opened(),
    ):
        pass


def test_a_link_is_not_followed(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("keep me")
    (other / "0.jsonl").write_text("not a line")
    journal = _journal(job)
    journal.root.mkdir()
    journal.folder.symlink_to(other)
    with pytest.raises(OutputError, match="is a link"), _journal(job).opened():
        pass
    _journal(job).close()
    assert {path.name for path in other.iterdir()} == {"letter.txt", "0.jsonl"}


def test_files_of_others_are_left_alone(job: Job) -> None:
    journal = _journal(job)
    journal.folder.mkdir(parents=True)
    letter = journal.folder / "letter.txt"
    letter.write_text("keep me")
    with (
        pytest.raises(OutputError, match=r"did not write \(letter.txt\); move it"),
        journal.opened(),
    ):
        pass
    journal.close()
    assert letter.read_text() == "keep me"


@pytest.mark.parametrize("content", ["5", "[]", "null", '{"output": 5}', "[" * 100_000, "\xff"])
def test_a_damaged_journal_holds_nothing(job: Job, content: str) -> None:
    journal = _journal(job)
    journal.folder.mkdir(parents=True)
    (journal.folder / "0.jsonl").write_bytes(content.encode("latin-1"))
    assert not _journal(job).holds(job.source, job.output)
    _finish(_journal(job), job)
    assert _journal(job).holds(job.source, job.output)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lock", r"\.passionsr/lock: a folder in a file's place; remove it"),
        ("holder.json", r"\.passionsr/holder\.json: a folder in a file's place; remove it"),
        ("0.jsonl", r"\.passionsr: cannot be read \(Is a directory"),
    ],
)
def test_a_folder_in_a_file_s_place_is_told(job: Job, name: str, message: str) -> None:
    (_journal(job).folder / name).mkdir(parents=True)
    with pytest.raises(OutputError, match=message):
        _finish(_journal(job), job)


def test_a_folder_that_is_closed_is_told_by_its_own_name(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*anything: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    journal = _journal(job)
    monkeypatch.setattr(Path, "mkdir", closed)
    with (
        pytest.raises(OutputError, match=r"/out: cannot be written \(Permission .* with --output"),
        journal.opened(),
    ):
        pass
    monkeypatch.setattr(Path, "is_dir", closed)
    with pytest.raises(OutputError, match=r"/out: cannot be read \(Permission denied"):
        _journal(job)


@pytest.mark.parametrize("writer", ["0", "12", "ray-0123abcd"])
def test_every_writers_results_are_known(job: Job, writer: str) -> None:
    with _journal(job).opened():
        one = _journal(job).of_writer(writer)
        place = one.place_for(job.output)
        place.write_bytes(b"a result")
        one.finish(job, identity(job.source), place)
        temporary_beside(one.place_for(job.output)).write_bytes(b"half")
    assert _journal(job).holds(job.source, job.output)
    _end(_journal(job))
    assert not _journal(job).folder.exists()


@pytest.mark.parametrize("writer", ["0", "ray-0123abcd"])
def test_nothing_remains_when_the_run_is_over(job: Job, writer: str) -> None:
    _finish(_journal(job, writer=writer), job)
    _end(_journal(job))
    assert sorted(path.name for path in job.output.parents[1].iterdir()) == ["sub"]
    assert not _journal(job).holds(job.source, job.output)


@pytest.mark.parametrize("changed", [None, "source", "result", "settings"])
def test_finished_work_is_known_to_the_same_command(job: Job, changed: str | None) -> None:
    _finish(_journal(job), job)
    _end(_journal(job))
    # Another run into the same folder does not forget the first one's.
    other = Job(job.source, job.output.with_name("b_x4.png"))
    _finish(_journal(job), other)
    _end(_journal(job))
    if changed in ("source", "result"):
        path = job.output if changed == "result" else Path(job.source)
        path.write_bytes(b"something longer than before")
    journal = _journal(job)
    finished = Finished(journal.root, "others" if changed == "settings" else journal.made_by)
    assert finished.holds(job.source, job.output) == (changed is None)


def test_names_that_are_not_utf8(job: Job, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.png")
    source.write_bytes(b"")
    named = Job(str(source), job.output.with_name(os.fsdecode(b"caf\xe9_x4.png")))
    _finish(_journal(job), named)
    assert _journal(job).holds(named.source, named.output)


def test_a_journal_of_other_code_does_not_count(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    settings = UpscaleSettings(model=str(tiny_folder), output=tmp_path / "out", device="cpu")

    def made_by() -> str:
        journal = plan_work([str(tmp_path / "in")], settings).journal
        assert journal is not None
        return journal.made_by

    before = made_by()
    assert made_by() == before
    monkeypatch.setattr("passionsr_cli.upscaling.run.image_code", lambda *places: "of others")
    assert made_by() != before


def test_a_run_puts_its_journal_away_while_it_holds_it(
    tmp_path: Path, least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may begin as soon as it lets go."""
    held: list[str | None] = []
    close = Journal.close

    def watched(journal: Journal) -> None:
        held.append(holder(journal.folder))
        close(journal)

    monkeypatch.setattr(Journal, "close", watched)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    settings = UpscaleSettings(model=str(least_folder), backend="torch", device="cpu")
    list(upscale([str(tmp_path)], settings))
    assert len(held) == 1
    assert held[0] is not None
    assert not (tmp_path / ".passionsr").exists()
