"""Load a model from its folder into torch, and save one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.store import MODEL, Entry, write_entry


def load(name: str) -> OneStepModel:
    """A model with its weights in float32, ready to run, in channels-last layout."""
    known = find_present(name)
    return load_entry(known.entry, known.description)


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
    return write_entry(folder, MODEL, {"description": description, **provenance}, tensors)
