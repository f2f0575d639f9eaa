"""Models and checkpoints by name and by folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.errors import ModelError, PassionSRError, StoreError
from passionsr_cli.models.loading import load
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.store import CHECKPOINT, MODEL


def test_names_and_folders_are_found(calibrate: Callable[..., str], least_folder: Path) -> None:
    name = calibrate("w8a8")
    model, checkpoint = resolve(str(least_folder)), resolve(name)
    assert (model.quantized, model.entry.folder) == (False, least_folder)
    assert (checkpoint.quantized, checkpoint.entry.name) == (True, name)
    assert not checkpoint.simulated
    assert checkpoint.description == model.description
    assert resolve(str(checkpoint.entry.folder)).fingerprint == checkpoint.fingerprint
    assert resolve(EMBEDDED_MODEL).description.name == EMBEDDED_MODEL


def test_what_is_found_can_be_loaded(calibrate: Callable[..., str], least_folder: Path) -> None:
    image, name = torch.rand(1, 3, 32, 32), calibrate("w8a8")
    with torch.no_grad():
        model, quantized = (resolve(each).load()(image) for each in (str(least_folder), name))
        assert torch.equal(model, load(str(least_folder))(image))
        assert torch.equal(quantized, load_checkpoint(find_checkpoint(name))(image))
    assert not torch.equal(model, quantized)


def test_a_checkpoint_goes_before_a_model_of_its_name(
    calibrate: Callable[..., str],
    least_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = calibrate("w8a8")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(least_folder, name)
    assert resolve(name).quantized
    assert not resolve(name, MODEL).quantized


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (None, StoreError, "there is no checkpoint or model 'nobody'; known are mini-w8a8"),
        (MODEL, ModelError, "unknown model 'nobody'"),
        (CHECKPOINT, StoreError, "no checkpoint named 'nobody'"),
    ],
)
def test_what_is_not_here_is_refused(
    kind: str | None, error: type[PassionSRError], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve("nobody", kind)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("mini-w8a8", MODEL, "'mini-w8a8' is a checkpoint, as --checkpoint takes it, and no model"),
        ("mini", CHECKPOINT, "'mini' is a model, as --model takes it, and no checkpoint"),
    ],
)
def test_the_name_of_the_other_kind_is_told(name: str, kind: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        resolve(name, kind)
