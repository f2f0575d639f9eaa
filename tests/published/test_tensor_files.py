"""Pickles that are small and would take hours or all memory; real ones are read as before."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import ModelError
from passionsr_cli.published.tensor_files import read_file

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


def test_files_of_torch_are_read(tmp_path: Path) -> None:
    many = {f"layer{index}.weight": torch.full((2, 2), float(index)) for index in range(3000)}
    torch.save(many, tmp_path / "new.pt")
    found = read_file(tmp_path / "new.pt")
    assert all(torch.equal(found[name], value) for name, value in many.items())
    assert torch.equal(read_file(_old(tmp_path / "old.pt"))["a"], torch.arange(5))
