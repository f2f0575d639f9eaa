"""Tiny real models and a home of their own for every test."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from passionsr_cli.registry import ModelDescription

warnings.simplefilter("ignore")
logging.getLogger().addHandler(logging.NullHandler())
# In the background of a shell Python, and every process of its own, would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted graphs of models that several tests use are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("PASSIONSR_CACHE", str(cache))
    monkeypatch.setenv("PASSIONSR_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


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


@pytest.fixture
def tiny_model(tiny_description: ModelDescription):  # type: ignore[no-untyped-def]
    from passionsr_cli.models.one_step import OneStepModel

    torch.manual_seed(0)
    model = OneStepModel(tiny_description)
    torch.nn.init.normal_(model.context)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def dial_description(tiny_description: ModelDescription) -> ModelDescription:
    """The tiny model with a dial: a UNet with two heads, and an encoder without its middle."""
    values = tiny_description.model_dump()
    values["unet"]["out_channels"] = 8
    values.update(name="tiny-dial", realism=0.25, left_out=("vae.encoder.mid_block",))
    return ModelDescription.model_validate(values)


@pytest.fixture
def dial_model(dial_description: ModelDescription):  # type: ignore[no-untyped-def]
    from passionsr_cli.models.one_step import OneStepModel

    torch.manual_seed(0)
    model = OneStepModel(dial_description)
    torch.nn.init.normal_(model.context)
    return model.eval().requires_grad_(False)


@pytest.fixture
def dial_folder(dial_model, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    """The tiny model with a dial as a folder that `--model` takes."""
    from passionsr_cli.models.loading import save

    save(tmp_path / "tiny-dial", dial_model, {})
    return tmp_path / "tiny-dial"


@pytest.fixture
def tiny_folder(tiny_model, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    """The tiny model as a folder that `--model` takes."""
    from passionsr_cli.models.loading import save

    save(tmp_path / "tiny", tiny_model, {})
    return tmp_path / "tiny"


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


@pytest.fixture
def calibrate(tiny_folder: Path) -> Callable[..., str]:
    """Makes a checkpoint of the tiny model, named after its bits, and gives its name."""
    from passionsr_cli import api
    from passionsr_cli.config import CalibrationSettings

    def run(bits: str, **settings: Any) -> str:
        values = {
            "model": str(tiny_folder),
            "unet": bits,
            "vae": bits,
            "method": "maxmin",
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            **settings,
        }
        return api.calibrate(CalibrationSettings.model_validate(values), bits).name

    return run
