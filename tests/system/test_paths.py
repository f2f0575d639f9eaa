"""Folders of the user's files, for users who have a home and for those who have none."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from passionsr_cli.system.paths import NO_HOME, cache_folder, home, name_of, survive_without_home

FOLDERS = [(home, "PASSIONSR_HOME"), (cache_folder, "PASSIONSR_CACHE")]


@pytest.fixture
def only_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, as `docker run --user 4711` makes."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "PASSIONSR_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("PASSIONSR_CACHE")


@pytest.mark.usefixtures("only_a_number")
@pytest.mark.parametrize(("folder", "variable"), FOLDERS)
@pytest.mark.parametrize("given", [None, "~/passionsr"])
@pytest.mark.parametrize("survived", [False, True])
def test_who_has_no_home_finds_nothing_and_can_go_on(
    folder: Callable[[], Path],
    variable: str,
    given: str | None,
    survived: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if given is not None:
        monkeypatch.setenv(variable, given)
    if survived:
        assert survive_without_home()
        assert not Path.home().exists()
    assert not folder().exists()
    assert folder().is_relative_to(NO_HOME)


@pytest.mark.usefixtures("only_a_number")
def test_who_has_named_both_folders_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, variable in FOLDERS:
        monkeypatch.setenv(variable, str(tmp_path))
    assert not survive_without_home()


@pytest.mark.usefixtures("only_a_number")
@pytest.mark.parametrize(("folder", "variable"), FOLDERS)
def test_a_folder_that_is_named_needs_no_home(
    folder: Callable[[], Path], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder() == tmp_path


def test_names_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    assert [name_of(path) for path in (".", "inside/..", "../mine/", "")] == ["mine"] * 4
    assert name_of("..") == tmp_path.name
    assert name_of("mini-w8a8") == "mini-w8a8"
    assert name_of("some/folder/") == "folder"
