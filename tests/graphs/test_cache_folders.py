from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.graphs.cache_folders import REPLACED_AFTER, UNUSED_AFTER, graphs_folder, use
from passionsr_cli.graphs.made_by import CONVERTERS
from passionsr_cli.store import MODEL

NEW = f"tiny-0123456789ab-{'0' * 24}"
REPLACED, OTHER = f"tiny-0123456789ab-{'1' * 24}", f"tiny-ba9876543210-{'1' * 24}"


def _made(folder: Path, days: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "unet.bin").write_bytes(b"weights")
    then = time.time() - 86400 * days
    os.utime(folder, (then, then))
    return folder


@pytest.mark.parametrize(
    ("name", "days", "stays"),
    [
        (REPLACED, REPLACED_AFTER - 0.1, True),
        (REPLACED, REPLACED_AFTER + 0.1, False),
        (OTHER, UNUSED_AFTER - 0.1, True),
        (OTHER, UNUSED_AFTER + 0.1, False),
    ],
)
def test_old_graphs_go_when_others_are_made(
    tmp_path: Path, name: str, days: float, stays: bool
) -> None:
    old = _made(tmp_path / name, days)
    use(tmp_path / NEW)
    assert old.exists() == stays
    assert len(list(tmp_path.iterdir())) == stays


def test_what_is_in_use_is_not_old(tmp_path: Path) -> None:
    old = _made(tmp_path / REPLACED, 2 * UNUSED_AFTER)
    use(old)
    use(tmp_path / NEW)
    assert (old / "unet.bin").exists()


def test_nothing_goes_where_nothing_is_made(tmp_path: Path) -> None:
    old, new = _made(tmp_path / REPLACED, 2 * UNUSED_AFTER), _made(tmp_path / NEW, 0)
    use(new)
    assert old.exists()


def test_links_and_files_beside_them_stay(tmp_path: Path) -> None:
    elsewhere = _made(tmp_path / "elsewhere" / "mine", 2 * UNUSED_AFTER)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / REPLACED).symlink_to(elsewhere)
    (cache / "lock").touch()
    os.utime(cache / "lock", (0, 0))
    use(cache / NEW)
    assert {path.name for path in cache.iterdir()} == {REPLACED, "lock"}
    assert (elsewhere / "unet.bin").exists()


def test_folders_of_others_stay(tmp_path: Path) -> None:
    photographs = _made(tmp_path / "cache" / "holiday-2019", 2 * UNUSED_AFTER)
    use(tmp_path / "cache" / NEW)
    assert photographs.exists()
    old = _made(tmp_path / "cache" / OTHER, 2 * UNUSED_AFTER)
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    use(tmp_path / "link" / NEW)
    assert old.exists()


def test_what_other_versions_converted_serves_where_nothing_can_be_converted(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path))
    source, versions = resolve(str(least_folder), MODEL), {"torch": "1", "diffusers": "1"}
    monkeypatch.setattr("passionsr_cli.graphs.cache_folders.version_of", versions.__getitem__)

    def folder(code: str = "code") -> Path:
        return graphs_folder("openvino", source, [code], CONVERTERS)

    first = _made(folder(), 1)
    assert folder() == first
    versions["torch"] = "2"
    second = folder()
    assert second != first
    versions["diffusers"] = "2"
    assert folder() not in (first, second)
    # The small installation, which others have left their cache.
    versions.update(torch="", diffusers="")
    assert folder() == first
    assert folder("other code") not in (first, second)
    _made(second, 0)
    assert folder() == second


def test_a_cache_that_is_not_there_yet_is_no_obstacle(tmp_path: Path) -> None:
    use(tmp_path / "none" / NEW)
    assert not (tmp_path / "none").exists()
