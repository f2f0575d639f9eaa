"""Pickles that are small and would take hours or all memory; real ones are read as before."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ModelError
from passionsr_cli.published.tensor_files import read_file, read_metadata, read_tensor

ENDLESS = b"\x80\x02" + b"(" * 3_000_000


def _old(path: Path) -> Path:
    torch.save({"a": torch.arange(5)}, path, _use_new_zipfile_serialization=False)
    return path


def _archive(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", "3")


@pytest.mark.parametrize("kind", ["plain", "old", "archive"])
def test_operations_are_bounded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pt"
    if kind == "archive":
        _archive(path, ENDLESS)
    else:
        # The first of the pickles of an old file, of 15 bytes, says what the file is.
        magic = _old(path).read_bytes()[:15] if kind == "old" else b""
        path.write_bytes(magic + ENDLESS)
    started = time.perf_counter()
    with pytest.raises(ModelError, match="more operations than any model has"):
        read_file(path)
    assert time.perf_counter() - started < 10


def test_of_several_listings_none_may_be_endless(tmp_path: Path) -> None:
    for first, second in ((ENDLESS, b"\x80\x02}."), (b"nothing", ENDLESS)):
        with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", first)
            archive.writestr("b/data.pkl", second)
        with pytest.raises(ModelError, match="more operations than any model has"):
            read_file(tmp_path / "a.pt")


HOSTILE = {
    "a wrong number of arguments": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "arguments that are none": b"ccollections\nOrderedDict\nK\x01R.",
    "a storage that is a number": b"K\x01Q.",
    "an empty stack": b"](]].e",
    "no mark": b"K\x01u.",
    "a memory that holds nothing": b"h\x05.",
    "more bytes than there are": b"\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "lists in lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "a program": b"cos\nsystem\n(S'exit'\ntR.",
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_a_pickle_says_is_refused_in_a_line(
    tmp_path: Path, kind: str, plain: bool
) -> None:
    path, content = tmp_path / "a.pt", b"\x80\x02" + HOSTILE[kind]
    if plain:
        path.write_bytes(content)
    else:
        _archive(path, content)
    with pytest.raises(ModelError) as refused:
        read_file(path)
    assert str(refused.value).startswith(str(path))
    assert len(str(refused.value).splitlines()) == 1


def test_a_damaged_head_has_no_texts(tmp_path: Path) -> None:
    for content in (b"", b"\x05\0\0\0\0\0\0\0[[[[[", b"\xff" * 20):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read"):
            read_metadata(tmp_path / "a.safetensors")


def test_compressed_tensors_are_refused(tmp_path: Path) -> None:
    """Torch stores them as they are; a few bytes would become all memory."""
    whole, path = tmp_path / "whole.pt", tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1_000_000)}, whole)
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelError, match="cannot be read"):
        read_file(path)


@pytest.mark.parametrize("kind", ["meta", "sparse", "quantized", "nested"])
def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    made = {
        "meta": lambda: torch.zeros(2, 2, device="meta"),
        "sparse": lambda: torch.eye(2).to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    }[kind]()
    path = tmp_path / "a.pt"
    for held in ({"layer": made}, {"state_dict": {"layer": made}}):
        torch.save(held, path)
        with pytest.raises(ModelError, match=r"is no plain tensor|cannot be read"):
            read_file(path)
    torch.save(made, path)
    with pytest.raises(ModelError, match=r"is no plain tensor|cannot be read"):
        read_tensor(path)


def test_tensors_under_numbers_are_refused(tmp_path: Path) -> None:
    torch.save({"state": {"step": 1}, 5: torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds a tensor under 5, expected a name"):
        read_file(tmp_path / "a.pt")


def test_files_of_torch_are_read(tmp_path: Path) -> None:
    many = {f"layer{index}.weight": torch.full((2, 2), float(index)) for index in range(3000)}
    torch.save(many, tmp_path / "new.pt")
    found = read_file(tmp_path / "new.pt")
    assert all(torch.equal(found[name], value) for name, value in many.items())
    assert torch.equal(read_file(_old(tmp_path / "old.pt"))["a"], torch.arange(5))
