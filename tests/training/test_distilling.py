"""A narrower decoder learned from photographs alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from reporting import killed_at

from passionsr_cli import api
from passionsr_cli.errors import ConfigError, StoreError
from passionsr_cli.models import loading
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.registry import describe
from passionsr_cli.store import MODEL, Entry, Store
from passionsr_cli.training.distilling import lighter
from passionsr_cli.training.run import run_folder
from passionsr_cli.training.settings import DistillationSettings

SETTINGS = DistillationSettings(
    model="mini",
    steps=12,
    batch_size=2,
    crop_px=64,
    learning_rate=4e-3,
    validation_crops=2,
    validation_every_steps=6,
)


def _distil(name: str, reporter: object = SILENT, device: str = "cpu", **changes: object) -> Entry:
    settings = SETTINGS.model_copy(update=changes)
    return api.distil(settings, None, name, device, "fp32", reporter)


def test_it_comes_nearer_to_the_models_own_decoder() -> None:
    heard = Notes()
    entry = _distil("light", heard)
    curve = entry.manifest["curve"]
    assert [row["step"] for row in curve] == [0, 6, 12]
    assert curve[-1]["psnr"] > curve[0]["psnr"] + 3
    made, own = loading.load("light"), loading.load("mini")
    assert made.description.decoder_channels == (64,)
    # Nothing but the decoder is another.
    kept = own.state_dict()
    for key, tensor in made.state_dict().items():
        if not key.startswith("vae.decoder."):
            assert torch.equal(tensor, kept[key])
    assert sum(p.numel() for p in made.vae.decoder.parameters()) < 0.6 * sum(
        p.numel() for p in own.vae.decoder.parameters()
    )
    assert made(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    # The same command again finds it finished, and removes what a kill at the very end left.
    folder = run_folder(Store(MODEL), "light")
    folder.mkdir(parents=True)
    (folder / "training.pt").write_bytes(b"a finished run")
    assert _distil("light").tensors_file == entry.tensors_file
    assert not folder.exists()


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_it_goes_on_with_another_device(first: str, then: str) -> None:
    with killed_at("decoder", 3) as reporter:
        _distil("light", reporter, first)
    curve = _distil("light", device=then).manifest["curve"]
    assert curve[-1]["psnr"] > curve[0]["psnr"] + 3


def test_a_kill_loses_nothing() -> None:
    whole = _distil("whole", steps=4, validation_every_steps=4)
    with killed_at("decoder", 3) as reporter:
        _distil("killed", reporter, steps=4, validation_every_steps=4)
    assert not Store(MODEL).exists("killed")
    heard = Notes()
    again = _distil("killed", heard, steps=4, validation_every_steps=4)
    assert any("resumed at step" in text for text in heard.texts)
    tensors, others = whole.tensors(), again.tensors()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    assert whole.manifest["curve"] == again.manifest["curve"]


def test_what_is_finished_learned_from_the_same_photographs(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"steps": 1})
    Image.new("RGB", (64, 64), "red").save(tmp_path / "one.png")
    api.distil(settings, tmp_path, "light", "cpu", "fp32")
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "one.png")
    with pytest.raises(StoreError, match="'light' exists already"):
        api.distil(settings, tmp_path, "light", "cpu", "fp32")


def test_what_cannot_be_distilled() -> None:
    with pytest.raises(ConfigError, match="'adcsr' has no VAE encoder"):
        lighter(describe("adcsr"), SETTINGS)
    with pytest.raises(ConfigError, match="crop_px must be a multiple of 64, found 32"):
        lighter(describe("osediff"), SETTINGS.model_copy(update={"crop_px": 32}))
    assert lighter(describe("osediff"), SETTINGS).decoder_channels == (64, 128, 256, 256)
