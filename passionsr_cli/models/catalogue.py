"""Find a model: the one inside the package, those of the store, any folder. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import abspath, isdir
from pathlib import Path

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError, PassionSRError
from passionsr_cli.registry import (
    EMBEDDED_FOLDER,
    EMBEDDED_MODEL,
    describe,
    model_names,
    read_description,
)
from passionsr_cli.store import MODEL, Entry, Store, read_entry
from passionsr_cli.system.text import suggestion


@dataclass(frozen=True)
class KnownModel:
    """A model the command line knows, and the folder of its weights if they are here."""

    name: str
    description: ModelDescription
    folder: Path | None

    @property
    def entry(self) -> Entry:
        """The store entry of a present model."""
        assert self.folder is not None
        return read_entry(self.folder, MODEL)

    @property
    def sha256(self) -> str:
        """SHA-256 of a present model's weights, as its manifest states it."""
        return self.entry.tensors_file.sha256


def names() -> tuple[str, ...]:
    """Names of registered models, then of those that were trained or added on this machine."""
    own = [name for name in Store(MODEL).names() if name not in model_names()]
    return (*model_names(), *own)


def known_models() -> list[KnownModel]:
    """The models of these names, but damaged ones."""
    return listing()[0]


def listing() -> tuple[list[KnownModel], dict[str, str]]:
    """The models of these names, and damaged ones with the reason."""
    found: list[KnownModel] = []
    damaged: dict[str, str] = {}
    for name in names():
        try:
            found.append(find(name))
        except PassionSRError as error:
            damaged[name] = str(error)
    return found, damaged


def find(name: str) -> KnownModel:
    """A model by its name, or by the folder that holds it; a known name goes before a folder."""
    store = Store(MODEL)
    stored = store.names()
    if name == EMBEDDED_MODEL:
        return KnownModel(name, describe(name), EMBEDDED_FOLDER)
    if name in stored:
        folder = store.folder(name)
        return KnownModel(name, read_description(folder), folder)
    if name in model_names():
        return KnownModel(name, describe(name), None)
    if isdir(name):
        return KnownModel(name, read_description(Path(name)), Path(name))
    raise ModelError(f"unknown model '{name}', and no folder{suggestion(name, names())}")


def find_present(name: str) -> KnownModel:
    """A model whose weights are on this machine; refused with where to get them if not."""
    known = find(name)
    if known.folder is None:
        raise ModelError(
            f"the weights of '{name}' are not on this machine; `passionsr models pull {name}` "
            f"fetches them, `passionsr models show {name}` says from where"
        )
    return known


def whole_name(name: str) -> str:
    """A model's name, or its folder's whole path, which means the same wherever one stands."""
    return name if name in names() else abspath(name)


def remove(name: str) -> None:
    """Delete a model of the store. Raises `ModelError` for a name that is none of its."""
    check_removable(name)
    Store(MODEL).remove(name)


def check_removable(name: str) -> None:
    """Refuse a name that is none of the store's models."""
    if name not in Store(MODEL).names():
        find_present(name)
        where = "part of passionsr and stays" if name == EMBEDDED_MODEL else "outside the store"
        raise ModelError(f"'{name}' is {where}; models that can be deleted are in the store")


def check_dial(description: ModelDescription, realism: float | None) -> None:
    """Refuse to set a dial that a model does not have; names the models that have one."""
    if realism is not None and description.realism is None:
        raise no_dial(f"'{description.name}'")


def no_dial(what: str) -> ConfigError:
    """The error for a realism that nothing takes."""
    having = [known.name for known in known_models() if known.description.realism is not None]
    return ConfigError(
        f"{what} has no dial for realism; models that have one: {', '.join(having) or 'none'}"
    )
