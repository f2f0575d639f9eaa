"""Finding and loading a model: the one inside the package, those of the store, any folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import (
    EMBEDDED_FOLDER,
    EMBEDDED_MODEL,
    ModelDescription,
    describe,
    model_names,
    read_description,
)
from passionsr_cli.store import Entry, Store, read_entry, write_entry

KIND = "model"


@dataclass(frozen=True)
class KnownModel:
    """A model the command line knows, and the folder of its weights if they are here."""

    name: str
    description: ModelDescription
    folder: Path | None


def known_models() -> list[KnownModel]:
    """Registered models, then those that were trained or added on this machine."""
    store = Store(KIND)
    own = [name for name in store.names() if name not in model_names()]
    return [find(name) for name in (*model_names(), *own)]


def find(name: str) -> KnownModel:
    """A model by its name, or by the folder that holds it; a known name goes before a folder."""
    store = Store(KIND)
    stored = store.names()
    if name == EMBEDDED_MODEL:
        return KnownModel(name, describe(name), EMBEDDED_FOLDER)
    if name in stored:
        folder = store.folder(name)
        return KnownModel(name, read_description(folder), folder)
    if name in model_names():
        return KnownModel(name, describe(name), None)
    if Path(name).is_dir():
        return KnownModel(name, read_description(Path(name)), Path(name))
    known = ", ".join([*model_names(), *(n for n in stored if n not in model_names())])
    raise ModelError(f"unknown model '{name}'; known are {known}, or give a model folder")


def find_present(name: str) -> KnownModel:
    """A model whose weights are on this machine; refused with where to get them if not."""
    known = find(name)
    if known.folder is None:
        places = "; ".join(f"{s.note}: {s.location}" for s in known.description.sources)
        raise ModelError(
            f"the weights of '{name}' are not on this machine ({places}); fetch them with "
            f"`passionsr models pull {name}`, or make it of files you have with "
            f"`passionsr models add {name}`; the embedded model '{EMBEDDED_MODEL}' is always here"
        )
    return known


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


def load(name: str) -> OneStepModel:
    """A model with its weights in float32, ready to run, in channels-last layout."""
    known = find_present(name)
    return load_entry(entry_of(known), known.description)


def entry_of(known: KnownModel) -> Entry:
    """The store entry of a present model."""
    assert known.folder is not None
    return read_entry(known.folder, KIND)


def checksum(known: KnownModel) -> str:
    """SHA-256 of a present model's weights, as its manifest states it."""
    return str(entry_of(known).manifest["tensors"]["sha256"])


def load_entry(entry: Entry, description: ModelDescription) -> OneStepModel:
    """The model of a store entry; every tensor must fit and none may be left over."""
    # Its weights are those of the entry: none is allocated or drawn before.
    with torch.device("meta"):
        model = OneStepModel(description)
    stored = entry.tensors()
    # Copies: what was read points into the file, which would stay in memory beside them.
    tensors = {name: stored.pop(name).float().clone() for name in list(stored)}
    expected = model.state_dict()
    missing, unknown = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    misshapen = [
        name
        for name in expected.keys() & tensors.keys()
        if expected[name].shape != tensors[name].shape
    ]
    if missing or unknown or misshapen:
        example = sorted([*missing, *unknown, *misshapen])[0]
        raise ModelError(
            f"{entry.tensors_path} does not fit its description: {len(missing)} tensors missing, "
            f"{len(unknown)} unknown, {len(misshapen)} of another shape (first: {example})"
        )
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def save(folder: Path, model: OneStepModel, provenance: dict[str, Any]) -> Entry:
    """Write a model in half precision, with what is known of its making, as a folder."""
    tensors = {name: tensor.half().cpu() for name, tensor in model.state_dict().items()}
    description = model.description.model_dump(mode="json")
    return write_entry(folder, KIND, {"description": description, **provenance}, tensors)
