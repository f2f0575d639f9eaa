"""Reading tensors other programs wrote, without running anything of theirs."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from passionsr_cli.errors import ModelError

SAFETENSORS = ".safetensors"
# A model of 2,500 tensors takes 100,000, in 1 MB.
MOST_OPERATIONS, MOST_PICKLE_BYTES = 1_000_000, 1 << 24
# Torch before 1.6 wrote so many one behind the other.
PICKLES = 5
# Whose callbacks are in checkpoints of trainings, such as AdcSR's decoder, beside the tensors.
_TRAINERS = ("pytorch_lightning.", "lightning.")
Tensors = dict[str, Tensor]


def read_file(path: Path) -> dict[str, Any]:
    """Read a safetensors file or a pickle of torch, mapped from disk where that goes.

    Of pickles nothing but tensors, numbers, strings and collections of them is accepted: anything
    else could run a program; for callbacks of Lightning come placeholders that do
    nothing. Tensors, also those of state dicts in the file, have names that are texts and lie in
    memory as numbers one by one. Raises `ModelError` for other files, and for damaged ones.
    """
    found = _read(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}, expected tensors by name")
    for held in (found, *found.values()):
        if isinstance(held, dict):
            _check_plain(path, held)
    return found


def read_tensor(path: Path) -> Tensor:
    """The one tensor of a file."""
    found = _read(path)
    tensors = list(found.values()) if isinstance(found, dict) else [found]
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor):
        raise ModelError(f"{path} holds {len(tensors)} entries, expected a single tensor")
    _check_plain(path, {"its tensor": tensors[0]})
    return tensors[0]


def named_tensors(held: Mapping[str, Any]) -> Tensors:
    """The tensors among what a file holds."""
    return {name: value for name, value in held.items() if isinstance(value, Tensor)}


def check_floating(origin: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights of other numbers than floating-point ones, such as of a quantized model."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{origin}: {name} holds numbers of type {kind}, expected floating-point ones: "
                "take the version of it that is not quantized"
            )


def _check_plain(path: Path, held: Mapping[Any, Any]) -> None:
    for name, tensor in held.items():
        if not isinstance(tensor, Tensor):
            continue
        if not isinstance(name, str):
            raise ModelError(f"{path} holds a tensor under {name!r:.40}, expected a name")
        special = tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested
        if special or tensor.device.type != "cpu":
            raise ModelError(
                f"{path}: {name} is no plain tensor (sparse, quantized, nested, or no numbers); "
                "save it as a plain one, or fetch another file"
            )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    return _read_safetensors(path) if path.suffix == SAFETENSORS else _read_pickle(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts a safetensors file has beside its tensors; none in a pickle."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != SAFETENSORS:
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


class _Placeholder:
    """Stands for an object of a training library: it keeps nothing, and nothing of that is run."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _placeholders(path: Path) -> list[tuple[type[_Placeholder], str]]:
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Placeholder, name) for name in unknown if name.startswith(_TRAINERS)]


def _read_pickle(path: Path, placeholders: Sequence[tuple[type[_Placeholder], str]] = ()) -> Any:
    if _is_endless(path):
        raise ModelError(f"{path} is a pickle of more operations than any model has; fetch another")
    try:
        with torch.serialization.safe_globals(list(placeholders)):
            return _load(path, mapped=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _damaged(path, error) from error
        if found[1].startswith(_TRAINERS) and not placeholders:
            return _read_pickle(path, _placeholders(path))
        raise ModelError(
            f"{path} holds a Python object ({found[1]}), and such a file can run any program when "
            "it is opened; expected nothing but tensors: take the .safetensors version of it"
        ) from error
    except Exception as error:
        # Unpickling what is damaged fails in more ways than its documentation names.
        raise _damaged(path, error) from error


def _is_endless(path: Path) -> bool:
    """Tell whether reading a pickle would take more than seconds: its operations run one by one."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # There is one; of several any may be the one that is read.
                listings = [name for name in archive.namelist() if name.endswith("data.pkl")]
                return any(_runs_on(_head(archive.open(name))) for name in listings)
        return _runs_on(_head(path.open("rb")))
    except Exception:
        # What is wrong with it shows when it is loaded.
        return False


def _head(opened: IO[bytes]) -> BytesIO:
    with opened as file:
        return BytesIO(file.read(MOST_PICKLE_BYTES))


def _runs_on(stream: BytesIO) -> bool:
    left = MOST_OPERATIONS
    with suppress(ValueError):
        for _ in range(PICKLES):
            for _ in pickletools.genops(stream):
                left -= 1
                if left < 0:
                    break
    return left < 0


def _load(path: Path, mapped: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except RuntimeError as error:
        # Files of torch before 1.6 are no archives and cannot be mapped.
        if not mapped or "mmap can only be used" not in str(error):
            raise
        return _load(path, mapped=False)


def _damaged(path: Path, error: Exception) -> ModelError:
    size = path.stat().st_size if path.exists() else 0
    told = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    # What unpickling text runs into is the number of a letter.
    plain = "" if isinstance(error, KeyError) else re.split(r"\n|\. ", told)[0]
    reason = plain or "it is no such file"
    return ModelError(
        f"{path} ({size:,} bytes) cannot be read: {reason}; expected a whole safetensors file or "
        "pickle of torch, fetch it again"
    )
