from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from passionsr_cli import methods
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import DeviceError, StoreError
from passionsr_cli.forecast import capacity
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system import memory


def test_sizes_are_those_of_the_model(tiny_model: OneStepModel) -> None:
    sizes = capacity.component_sizes(tiny_model.description, 32)
    assert set(sizes) == set(COMPONENTS)
    weighted = sum(part.weights for part in sizes.values())
    assert 0.9 < weighted / sum(p.numel() for p in tiny_model.parameters()) < 1
    # The VAE's attention sees 8×8 latent pixels with one head.
    assert sizes["encoder"].scores == 64**2


def test_fitting_all_at_once_or_without_recomputation_needs_more(
    tiny_description: ModelDescription,
) -> None:
    sizes = capacity.component_sizes(tiny_description, 64)
    settings = CalibrationSettings(crop_px=64)
    saving = settings.model_copy(update={"gradient_checkpointing": True})
    apart = [(component,) for component in COMPONENTS]
    one = capacity.needed_bytes(sizes, apart, settings)
    assert capacity.needed_bytes(sizes, [COMPONENTS], settings) > one
    assert capacity.needed_bytes(sizes, apart, saving) < one


def test_too_little_room_is_refused(
    tiny_description: ModelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CalibrationSettings(crop_px=64, crops=100)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda path: usage(3_000_000))
    with pytest.raises(StoreError, match=r"needs about 7 MB under .*, 3 MB are free"):
        capacity.check_disk(tmp_path / "not" / "yet", tiny_description, settings)
    import psutil

    available = namedtuple("available", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available(500_000_000))
    with pytest.raises(DeviceError, match=r"needs about 1\.2 GB of memory, 0\.5 GB are free"):
        capacity.check_memory(tiny_description, settings, methods.build(settings), "cpu")


def test_a_containers_limit_counts(
    tiny_description: ModelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "memory.max": "700000000\n",
        "memory.current": "300000000\n",
        "memory.stat": "inactive_file 0\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    settings = CalibrationSettings(crop_px=64)
    with pytest.raises(DeviceError, match=r"1\.2 GB of memory, 0\.4 GB are free"):
        capacity.check_memory(tiny_description, settings, methods.build(settings), "cpu")
