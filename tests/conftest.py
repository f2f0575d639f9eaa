"""Tiny real models and calibrations of them, and a home of its own for every test."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before anything imports Triton: its kernels run on CPUs in its interpreter alone.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from calibrating import Finished, draw_nothing

from passionsr_cli.description import ModelDescription

if TYPE_CHECKING:
    from passionsr_cli.models.one_step import OneStepModel

# Importing makes half a million objects and hardly any garbage.
gc.disable()
warnings.simplefilter("ignore")
logging.getLogger().addHandler(logging.NullHandler())
# In the background of a shell Python, and every process of its own, would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-captures", action="store_true", help="write tests/cli/captures anew")


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("this machine has no NVIDIA GPU")
    _set_imported_aside()
    yield
    _wait_for_graphs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    try:
        return (yield)
    finally:
        _wait_for_graphs()


def _wait_for_graphs() -> None:
    """Wait for threads that make graphs, which read the environment: pytest changes it next."""
    for thread in threading.enumerate():
        if thread.name == "graph":
            thread.join()


def _set_imported_aside() -> None:
    """Set aside what imports made: it stays, and looking for garbage in it takes a seventh of the
    time of all tests."""
    if len(sys.modules) > _set_aside[-1] + 100:
        gc.collect()
        gc.freeze()
        _set_aside.append(len(sys.modules))


_set_aside = [0]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted graphs of models that several tests use are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def seed() -> None:
    """What tests draw is the same in any order of them."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    _wait_for_graphs()
    monkeypatch.setenv("PASSIONSR_CACHE", str(cache))
    monkeypatch.setenv("PASSIONSR_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the pictures of calibrations, but tests that ask for `pictures`."""
    if "pictures" not in request.fixturenames:
        draw_nothing(monkeypatch)


@pytest.fixture
def pictures() -> None:
    """Calibrations in this process draw their pictures."""


def tiny() -> ModelDescription:
    """The shape of Stable Diffusion with every layer kind, in a few thousand parameters."""
    return ModelDescription(
        name="tiny",
        title="tiny",
        licence="MIT",
        timestep=199,
        upscale_factor=4,
        patch_size=2,
        context_shape=(3, 8),
        vae={
            "in_channels": 12,
            "out_channels": 12,
            "down_block_types": ["DownEncoderBlock2D"] * 2,
            "up_block_types": ["UpDecoderBlock2D"] * 2,
            "block_out_channels": [8, 16],
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 4,
            "scaling_factor": 0.5,
        },
        unet={
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "block_out_channels": [8, 16],
            "layers_per_block": 1,
            "cross_attention_dim": 8,
            "attention_head_dim": [1, 2],
            "use_linear_projection": True,
            "norm_num_groups": 4,
        },
    )


@pytest.fixture(scope="session")
def tiny_description() -> ModelDescription:
    """See `tiny`."""
    return tiny()


def _random_model(description: ModelDescription) -> OneStepModel:
    from passionsr_cli.models.one_step import OneStepModel

    torch.manual_seed(0)
    model = OneStepModel(description)
    torch.nn.init.normal_(model.context)
    return model.eval().requires_grad_(False)


@pytest.fixture
def tiny_model(tiny_description: ModelDescription) -> OneStepModel:
    return _random_model(tiny_description)


@pytest.fixture
def least_model(least_description: ModelDescription) -> OneStepModel:
    return _random_model(least_description)


@pytest.fixture(scope="session")
def dial_description(tiny_description: ModelDescription) -> ModelDescription:
    """The tiny model with a dial: a UNet with two heads, and an encoder without its middle."""
    values = tiny_description.model_dump()
    values["unet"]["out_channels"] = 8
    values.update(name="tiny-dial", realism=0.25, left_out=("vae.encoder.mid_block",))
    return ModelDescription.model_validate(values)


@pytest.fixture
def dial_model(dial_description: ModelDescription) -> OneStepModel:
    return _random_model(dial_description)


@pytest.fixture(scope="session")
def least_description(tiny_description: ModelDescription) -> ModelDescription:
    """Of the tiny model's layers two fifths, on one level: for calibrations that are run often."""
    values = tiny_description.model_dump()
    values.update(name="least", left_out=("vae.encoder.mid_block",))
    values["vae"].update(
        down_block_types=["DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D"],
        block_out_channels=[8],
    )
    values["unet"].update(
        down_block_types=["DownBlock2D"],
        up_block_types=["UpBlock2D"],
        block_out_channels=[8],
        attention_head_dim=[1],
    )
    return ModelDescription.model_validate(values)


@pytest.fixture(scope="session")
def saved_models(
    tiny_description: ModelDescription,
    least_description: ModelDescription,
    dial_description: ModelDescription,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    from passionsr_cli.models.loading import save

    folder = tmp_path_factory.mktemp("models")
    for description in (tiny_description, least_description, dial_description):
        save(folder / description.name, _random_model(description), {})
    return folder


def _untouched(folder: Path) -> Iterator[Path]:
    """A folder that all tests share, which none may change: it copies what it changes."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    yield folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.fixture
def tiny_folder(saved_models: Path) -> Iterator[Path]:
    """The tiny model as a folder that `--model` takes."""
    yield from _untouched(saved_models / "tiny")


@pytest.fixture
def least_folder(saved_models: Path) -> Iterator[Path]:
    """The tiny model's layers on one level, as a folder that `--model` takes."""
    yield from _untouched(saved_models / "least")


@pytest.fixture
def dial_folder(saved_models: Path) -> Iterator[Path]:
    """The tiny model with a dial as a folder that `--model` takes."""
    yield from _untouched(saved_models / "tiny-dial")


@pytest.fixture
def niqe_folder(tmp_path: Path) -> Path:
    """A folder with parameters for NIQE that anybody can make: the published ones may not be
    here."""
    import numpy as np
    import scipy.io

    folder = tmp_path / "weights"
    folder.mkdir()
    some = np.random.default_rng(0).normal(size=(200, 36)) + 1
    values = {"mu_prisparam": some.mean(0, keepdims=True), "cov_prisparam": np.cov(some.T)}
    scipy.io.savemat(folder / "niqe_modelparameters.mat", values)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Calibrations that several tests look at are computed once."""
    return Finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def calibrate(least_folder: Path, finished: Finished) -> Callable[..., str]:
    """Makes a checkpoint of the least model, named after its bits, with every layer on integers,
    and gives its name."""
    from passionsr_cli.config import CalibrationSettings

    def run(bits: str, **settings: Any) -> str:
        values = {
            "model": str(least_folder),
            "unet": bits,
            "vae": bits,
            "float_layers": (),
            "method": "maxmin",
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            **settings,
        }
        return finished(CalibrationSettings.model_validate(values), bits).name

    return run
