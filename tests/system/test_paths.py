"""Folders of the user's files, for users who have a home and for those who have none."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
from passionsr_cli.system.paths import cache_folder, home, survive_without_home

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
def test_who_has_no_home_is_told_what_to_set(
    folder: object,
    variable: str,
    given: str | None,
    survived: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if survived:
        survive_without_home()
        assert not Path.home().exists()
    if given is not None:
        monkeypatch.setenv(variable, given)
    with pytest.raises(OutputError, match="no home directory; set HOME, or PASSIONSR_HOME and"):
        folder()  # type: ignore[operator]


@pytest.mark.usefixtures("only_a_number")
@pytest.mark.parametrize(("folder", "variable"), FOLDERS)
def test_a_folder_that_is_named_needs_no_home(
    folder: object, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder() == tmp_path  # type: ignore[operator]
