"""The store: models and checkpoints as folders of a versioned manifest and one safetensors file.

An entry's tensors are written first, under a name made of their checksum, then its manifest
takes its place in one step: a kill at any moment leaves the old entry or none. The manifest holds
the SHA-256 of the tensors and, from format version 2 on, one of itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passionsr_cli.errors import StoreError
from passionsr_cli.registry import MANIFEST_FILE
from passionsr_cli.system.files import (
    put_in_place,
    read_json,
    remove,
    replace_atomically,
    sha256_of,
    unfinished_beside,
)
from passionsr_cli.system.paths import home
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

MODEL, CHECKPOINT = "model", "checkpoint"
FORMAT_VERSION = 2
# The first one has no checksum of the manifest.
READABLE_VERSIONS = (1, FORMAT_VERSION)
# Folders and files are called after entries, with more behind it; file systems have 255 bytes.
LONGEST_NAME = 128
ENVELOPE = ("format_version", "kind", "tensors", "checksum")


@dataclass(frozen=True)
class TensorsFile:
    """The file of an entry's tensors: its name in the folder, its SHA-256 and its size."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Entry:
    """A folder of the store: what its manifest says, and its tensors on demand."""

    folder: Path
    manifest: dict[str, Any]
    tensors_file: TensorsFile

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def tensors_path(self) -> Path:
        return self.folder / self.tensors_file.file

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, after their checksum was compared with the manifest's."""
        from safetensors.torch import load_file

        return self._loaded(load_file)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The same as `tensors`, without torch."""
        from safetensors.numpy import load_file

        return self._loaded(load_file)

    def _loaded(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        from safetensors import SafetensorError

        path = self._verified_path()
        try:
            return load(path)
        except SafetensorError as error:
            raise StoreError(f"{path} is no file of tensors: {error}") from error

    def _verified_path(self) -> Path:
        path, expected = self.tensors_path, self.tensors_file.sha256
        if not path.is_file():
            raise StoreError(f"{path} is missing; write the entry '{self.name}' again")
        found, size = sha256_of(path), path.stat().st_size
        if size != self.tensors_file.bytes:
            raise StoreError(
                f"{path} is damaged: it has {size} bytes, the manifest says "
                f"{self.tensors_file.bytes}; write the entry '{self.name}' again"
            )
        if found != expected:
            raise StoreError(
                f"{path} is damaged: its SHA-256 is {found[:12]}…, the manifest says "
                f"{expected[:12]}…; write the entry '{self.name}' again"
            )
        return path


def shortest(tensor: Tensor) -> Tensor:
    """A floating-point tensor in half precision if nothing is lost by it, else in float32."""
    half = tensor.half()
    return half if half.float().equal(tensor.float()) else tensor.float()


def kind_of(folder: Path) -> str | None:
    """Kind of the entry that a folder holds, if any."""
    try:
        manifest = read_json(folder / MANIFEST_FILE)
    except (OSError, ValueError):
        return None
    return str(manifest.get("kind")) if isinstance(manifest, dict) else None


def read_entry(folder: Path, kind: str) -> Entry:
    """The entry in a folder, refused unless it is of this kind, readable and undamaged."""
    path = folder / MANIFEST_FILE
    try:
        stored = read_json(path, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise StoreError(f"{folder} holds no {kind}: {MANIFEST_FILE} is missing there") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(stored, dict) or stored.get("kind") != kind:
        found = stored.get("kind") if isinstance(stored, dict) else type(stored).__name__
        raise StoreError(f"{folder} holds a {found}, expected a {kind}")
    version = stored.get("format_version")
    if version not in READABLE_VERSIONS:
        raise StoreError(
            f"{path} has format version {version}, this version of passionsr reads "
            f"{', '.join(map(str, READABLE_VERSIONS))}; update passionsr"
        )
    expected = None if version == 1 else checksum(stored)
    if stored.get("checksum") != expected:
        raise StoreError(f"{path} is damaged: it is not what its checksum says; write it again")
    manifest = {key: value for key, value in stored.items() if key not in ENVELOPE}
    return Entry(folder, manifest, _tensors_file(stored.get("tensors"), path))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, numbers must be finite")


def _tensors_file(found: object, path: Path) -> TensorsFile:
    try:
        file = TensorsFile(**found)  # type: ignore[arg-type]
    except TypeError:
        file = TensorsFile("", "", 0)
    types = [type(value) for value in vars(file).values()]
    if types != [str, str, int] or not re.fullmatch(r"tensors-\w+\.safetensors", file.file):
        raise StoreError(f"{path} does not say where its tensors are; write the entry again")
    return file


def checksum(stored: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest but for its own checksum, however it is laid out."""
    content = {key: value for key, value in stored.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_entry(
    folder: Path, kind: str, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Entry:
    """Write or replace an entry; on any failure the old one stays whole.

    `manifest` holds what JSON holds, and finite numbers only.
    """
    from safetensors import SafetensorError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _write_tensors(folder, tensors)
        stored = {
            "format_version": FORMAT_VERSION,
            "kind": kind,
            **manifest,
            "tensors": asdict(file),
        }
        stored["checksum"] = checksum(stored)
        with replace_atomically(folder / MANIFEST_FILE) as temporary:
            temporary.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot write {folder}: {reason}") from error
    for stale in folder.glob("tensors-*.safetensors"):
        if stale.name != file.file:
            stale.unlink()
    return read_entry(folder, kind)


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> TensorsFile:
    from safetensors.torch import save_file

    with unfinished_beside(folder / "tensors.safetensors") as temporary:
        # safetensors makes files only their owner can read; keep what the user's umask says.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        temporary.chmod(mode)
        digest = sha256_of(temporary)
        size = temporary.stat().st_size
        name = f"tensors-{digest[:16]}.safetensors"
        put_in_place(temporary, folder / name)
    return TensorsFile(name, digest, size)


class Store:
    """All entries of one kind under one folder."""

    def __init__(self, kind: str, root: Path | None = None) -> None:
        self.kind = kind
        self.root = root or home() / f"{kind}s"

    def folder(self, name: str) -> Path:
        """Folder of the entry of this name, whether it is there or not."""
        if len(name) > LONGEST_NAME:
            raise StoreError(
                f"'{name[:20]}…' is too long for a {self.kind} name; use at most "
                f"{LONGEST_NAME} letters"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise StoreError(
                f"'{name}' is no {self.kind} name; use letters, digits, '.', '_' and '-'"
            )
        return self.root / name

    def exists(self, name: str) -> bool:
        return (self.folder(name) / MANIFEST_FILE).exists()

    def names(self) -> list[str]:
        """Names of the complete entries, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST_FILE}"))

    def read(self, name: str) -> Entry:
        return read_entry(self._present(name), self.kind)

    def _present(self, name: str) -> Path:
        """The folder of an entry, damaged or not, that is there."""
        if not self.exists(name):
            raise StoreError(f"no {self.kind} named '{name}'{suggestion(name, self.names())}")
        return self.folder(name)

    def write(self, name: str, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Entry:
        return write_entry(self.folder(name), self.kind, manifest, tensors)

    @contextmanager
    def whole_or_absent(self, name: str) -> Iterator[None]:
        """Remove what is written inside for an entry where it does not get its manifest, as on a
        full disk: without one nobody would find it."""
        try:
            yield
        finally:
            if not self.exists(name):
                remove(self.folder(name))

    def remove(self, name: str) -> None:
        """Delete an entry, damaged or not: its manifest first, so that no half entry is ever
        listed. Of one that is linked here the link alone goes."""
        folder = self._present(name)
        if folder.is_symlink():
            folder.unlink()
            return
        (folder / MANIFEST_FILE).unlink()
        shutil.rmtree(folder)
