from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import StoreError
from passionsr_cli.store import (
    Entry,
    Store,
    TensorsFile,
    checksum,
    kind_of,
    read_entry,
    write_entry,
)
from passionsr_cli.system import files
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.paths import home

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int8)}


def test_home_is_where_the_variable_says(home: Path) -> None:
    from passionsr_cli.system.paths import home as found

    assert found() == home


def test_home_defaults_to_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PASSIONSR_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home().name == "passionsr"


def test_what_is_written_is_read_back() -> None:
    store = Store("checkpoint")
    store.write("one", {"note": "hello"}, TENSORS)
    entry = store.read("one")
    assert entry.manifest["note"] == "hello"
    assert all(torch.equal(entry.tensors()[name], TENSORS[name]) for name in TENSORS)
    assert store.names() == ["one"]
    store.remove("one")
    assert store.names() == []


def test_overwriting_leaves_exactly_one_tensor_file() -> None:
    store = Store("checkpoint")
    store.write("one", {}, TENSORS)
    entry = store.write("one", {}, {"a": torch.zeros(2)})
    assert [path.name for path in entry.folder.glob("*.safetensors")] == [entry.tensors_path.name]
    assert torch.equal(store.read("one").tensors()["a"], torch.zeros(2))


class _Kill(BaseException):
    pass


@pytest.mark.parametrize("moment", [1, 2])
def test_a_kill_leaves_the_old_entry(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Every replacement of a file on the way is interrupted once."""
    store = Store("checkpoint")
    store.write("one", {"version": "old"}, TENSORS)
    replace, calls = files.os.replace, []

    def dying(*arguments: Path) -> None:
        calls.append(arguments)
        if len(calls) == moment:
            raise _Kill
        replace(*arguments)

    monkeypatch.setattr("os.replace", dying)
    with pytest.raises(_Kill):
        store.write("one", {"version": "new"}, {"a": torch.zeros(2)})
    monkeypatch.undo()
    entry = store.read("one")
    assert entry.manifest["version"] == "old"
    assert torch.equal(entry.tensors()["a"], TENSORS["a"])


def test_nothing_has_a_name_that_others_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    replace, named = files.os.replace, []

    def noting(source: Path, target: Path) -> None:
        named.append(target)
        replace(source, target)

    monkeypatch.setattr("os.replace", noting)
    entry = Store("checkpoint").write("one", {}, TENSORS)
    assert named == [entry.tensors_path, entry.folder / "manifest.json"]


def test_a_new_entry_killed_half_way_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("checkpoint")

    def dying(*arguments: Path) -> None:
        raise _Kill

    monkeypatch.setattr("os.replace", dying)
    with pytest.raises(_Kill):
        store.write("one", {}, TENSORS)
    assert store.names() == []
    assert not store.exists("one")


def test_what_gets_no_manifest_leaves_nothing() -> None:
    store = Store("checkpoint")
    with store.whole_or_absent("half"):
        store.folder("half").mkdir(parents=True)
        (store.folder("half") / "curve.csv").write_text("")
    assert not store.folder("half").exists()


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    entry = write_entry(tmp_path / "one", "checkpoint", {}, TENSORS)
    content = bytearray(entry.tensors_path.read_bytes())
    content[-1] ^= 1
    entry.tensors_path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"damaged.*SHA-256"):
        read_entry(tmp_path / "one", "checkpoint").tensors()


def test_what_is_damaged_or_linked_can_be_removed(tmp_path: Path) -> None:
    store = Store("checkpoint")
    store.write("cut", {}, TENSORS)
    (store.folder("cut") / "manifest.json").write_text('{"kind": "check')
    store.remove("cut")
    elsewhere = write_entry(tmp_path / "elsewhere", "checkpoint", {}, TENSORS)
    store.folder("link").symlink_to(elsewhere.folder)
    assert store.names() == ["link"]
    store.remove("link")
    assert store.names() == []
    assert list(store.root.iterdir()) == []
    assert torch.equal(read_entry(elsewhere.folder, "checkpoint").tensors()["a"], TENSORS["a"])


def test_what_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    entry = write_entry(tmp_path / "one", "checkpoint", {}, TENSORS)
    entry.tensors_path.write_bytes(b"no tensors")
    size = entry.tensors_path.stat().st_size
    changed = TensorsFile(entry.tensors_file.file, sha256_of(entry.tensors_path), size)
    with pytest.raises(StoreError, match="is no file of tensors"):
        Entry(entry.folder, {}, changed).tensors()
    with pytest.raises(StoreError, match="is damaged: it has 10 bytes, the manifest says 11"):
        Entry(entry.folder, {}, replace(changed, bytes=11)).arrays()


@pytest.mark.parametrize("is_folder", [False, True])
def test_missing_tensors_are_named(tmp_path: Path, is_folder: bool) -> None:
    entry = write_entry(tmp_path / "one", "checkpoint", {}, TENSORS)
    entry.tensors_path.unlink()
    if is_folder:
        entry.tensors_path.mkdir()
    with pytest.raises(StoreError, match="is missing"):
        entry.tensors()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "\udcff", "5", "[]"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"cannot read .*manifest\.json|holds a (int|list)"):
        read_entry(tmp_path, "checkpoint")
    assert kind_of(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99.*update passionsr"),
        ({"kind": "sandwich"}, "holds a sandwich, expected a checkpoint"),
        ({"tensors": {}}, "does not say where its tensors are"),
    ],
)
def test_a_manifest_of_another_kind_or_version_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    entry = write_entry(tmp_path / "one", "checkpoint", {}, TENSORS)
    path = entry.folder / "manifest.json"
    stored = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({**stored, "checksum": checksum(stored)}))
    with pytest.raises(StoreError, match=message):
        read_entry(tmp_path / "one", "checkpoint")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        read_entry(tmp_path, "model")


def test_unknown_and_impossible_names_are_refused() -> None:
    store = Store("model")
    with pytest.raises(StoreError, match="no model named 'x'; known are none"):
        store.read("x")
    for name in ("n" * 5000, "n" * 129):
        with pytest.raises(StoreError, match="is too long for a model name"):
            store.read(name)
    with pytest.raises(StoreError, match="is no model name"):
        store.write("../x", {}, TENSORS)
