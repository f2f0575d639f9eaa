"""Tiles of a picture that a kill ended: taken up where they are what would be computed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from reporting import Kill

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Notes, Reporter
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling import kept_tiles
from passionsr_cli.upscaling.images import Done
from passionsr_cli.upscaling.kept_tiles import ABANDONED_AFTER_DAYS, FOLDER, KeptTiles
from passionsr_cli.upscaling.run import plan_work, upscale_planned

SECONDS = 0.01
# Of six tiles, in two rows: the third of them is being decoded.
KILLED_AT = 9


class Slow:
    """An executor that takes its time, with a look at each half of a tile before it is computed."""

    backend, precision = "torch", "fp32"

    def __init__(
        self, model: str, look: Callable[[int], None] = lambda halves: None, device: str = "cpu"
    ) -> None:
        self.description = resolve(model).description
        self.look, self.device, self.halves = look, device, 0

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        self._work()
        f = self.description.latent_factor
        channels = [upscaled[:, i % 3, i % f :: f, i % f :: f] for i in range(4)]
        return np.stack(channels, 1) - np.float32(0.3)

    def decode(self, latent: Array) -> Array:
        self._work()
        f = self.description.latent_factor
        return np.tanh(latent[:, :3]).repeat(f, 2).repeat(f, 3)

    def kernels(self) -> KernelReport:
        return KernelReport((), (), ())

    def peak_memory_bytes(self) -> int:
        return 0

    def _work(self) -> None:
        self.halves += 1
        self.look(self.halves)
        time.sleep(SECONDS)


def _upscale(
    executor: Slow, source: str, settings: UpscaleSettings, reporter: Reporter = SILENT
) -> Done:
    work = plan_work([source], settings)
    (done,) = upscale_planned(TiledUpscaler(executor, 32, 8), work, settings, reporter)
    assert isinstance(done, Done), done
    return done


def _killed(halves: int) -> None:
    if halves == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _ended(halves: int) -> None:
    if halves == KILLED_AT:
        raise Kill


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_tiles, "WORTH_SECONDS", SECONDS / 2)


@pytest.fixture
def model(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture
def settings(settings: UpscaleSettings, tmp_path: Path) -> UpscaleSettings:
    return settings.model_copy(update={"output": tmp_path / "out.png"})


@pytest.fixture
def source(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 18, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return str(tmp_path / "in.png")


@pytest.fixture
def undisturbed(model: str, source: str, settings: UpscaleSettings) -> tuple[bytes, int]:
    """What one run makes of the picture, and of how many halves."""
    executor, output = Slow(model), settings.output
    assert output is not None
    assert 2 * _upscale(executor, source, settings).tiles == executor.halves > KILLED_AT
    assert _kept() == []
    result = output.read_bytes()
    output.unlink()
    shutil.rmtree(cache_folder())
    return result, executor.halves


def _kept() -> list[Path]:
    return list((cache_folder() / FOLDER).rglob("*.tile"))


def _interrupt(model: str, source: str, settings: UpscaleSettings) -> list[Path]:
    with pytest.raises(Kill):
        _upscale(Slow(model, _ended), source, settings)
    kept = _kept()
    assert kept
    return kept


def test_after_a_kill_only_what_is_missing_is_computed(
    model: str, source: str, settings: UpscaleSettings, undisturbed: tuple[bytes, int]
) -> None:
    command = [sys.executable, __file__, model, source, str(settings.output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    # The first of each half waits for the model, and is not kept.
    kept, (result, halves) = len(_kept()), undisturbed
    assert kept == KILLED_AT - 1 - 2
    executor, notes = Slow(model), Notes()
    done = _upscale(executor, source, settings, notes)
    assert done.output.read_bytes() == result
    assert executor.halves == halves - kept
    assert notes.texts == [f"{source}: took up {kept // 2} of {done.tiles} tiles from before"]
    # Nothing is left, and nothing hidden beside the result.
    assert not (cache_folder() / FOLDER).exists()
    assert not [path for path in done.output.parent.iterdir() if path.name.startswith(".")]


def test_what_is_damaged_is_computed_again(
    model: str, source: str, settings: UpscaleSettings, undisturbed: tuple[bytes, int]
) -> None:
    cut, changed, empty, no_array, *whole = _interrupt(model, source, settings)
    cut.write_bytes(cut.read_bytes()[:-4])
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")
    empty.write_bytes(b"")
    no_array.write_bytes(hashlib.sha256(b"?").digest() + b"?")
    executor, (result, halves) = Slow(model), undisturbed
    assert _upscale(executor, source, settings).output.read_bytes() == result
    assert executor.halves == halves - len(whole)


@pytest.mark.parametrize("changed", ["code", "precision", "threads", "cpu", "picture"])
def test_what_would_be_computed_otherwise_is_not_taken_up(
    model: str,
    source: str,
    settings: UpscaleSettings,
    undisturbed: tuple[bytes, int],
    changed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _interrupt(model, source, settings)
    executor = Slow(model)
    if changed == "code":
        monkeypatch.setattr("passionsr_cli.upscaling.run.image_code", lambda *places: "other")
    elif changed == "precision":
        executor.precision = "bf16"
    elif changed == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
    elif changed == "cpu":
        # Machines of one virtual name may have other instructions.
        monkeypatch.setattr("passionsr_cli.system.cpu.instructions", lambda: ("other",))
    else:
        with Image.open(source) as image:
            image.point(lambda level: 255 - level).save(source)
    _upscale(executor, source, settings)
    assert executor.halves == undisturbed[1]


@pytest.mark.parametrize("how", [("restored", 0.5), ("decoded",)])
def test_the_same_tile_is_another_in_another_half_or_at_another_realism(
    model: str, how: tuple[object, ...]
) -> None:
    executor, tile = Slow(model), np.ones((1, 3, 32, 32), np.float32)
    # The second of the same tiles is kept.
    for way, halves in ((("restored", 0.7), 2), (how, 4), (("restored", 0.7), 4)):
        kept = KeptTiles("these weights", executor, tile[0])
        half = kept.around(executor.restore_latent, way)
        assert np.array_equal(half(tile), half(tile))
        assert executor.halves == halves


def test_two_processes_with_one_picture_do_not_disturb_each_other(
    model: str, source: str, settings: UpscaleSettings, undisturbed: tuple[bytes, int]
) -> None:
    _interrupt(model, source, settings)

    def other_ends(halves: int) -> None:
        shutil.rmtree(cache_folder() / FOLDER, ignore_errors=True)

    executor = Slow(model, other_ends)
    assert _upscale(executor, source, settings).output.read_bytes() == undisturbed[0]
    assert _kept() == []


@pytest.mark.parametrize("trouble", ["full", "fills up", "a file", "another's"])
def test_a_cache_that_takes_nothing_stops_no_picture(
    model: str,
    source: str,
    settings: UpscaleSettings,
    undisturbed: tuple[bytes, int],
    trouble: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fills_up(path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space")

    if trouble == "full":
        usage = SimpleNamespace(free=kept_tiles.LEAST_FREE_BYTES - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    elif trouble == "fills up":
        monkeypatch.setattr(kept_tiles, "replace_atomically", fills_up)
    elif trouble == "another's":
        (cache_folder() / FOLDER).mkdir(parents=True)
        is_dir = Path.is_dir
        monkeypatch.setattr(Path, "is_dir", lambda path: _readable(path) and is_dir(path))
    else:
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "file"))
    most = []
    executor = Slow(model, lambda halves: most.append(len(_kept())))
    assert _upscale(executor, source, settings).output.read_bytes() == undisturbed[0]
    assert set(most) == {0}


def _readable(path: Path) -> bool:
    if path.parent.name == FOLDER:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return True


def test_a_link_in_the_cache_is_not_followed(
    model: str,
    source: str,
    settings: UpscaleSettings,
    undisturbed: tuple[bytes, int],
    tmp_path: Path,
) -> None:
    kept = {path.name for path in _interrupt(model, source, settings)}
    (folder,) = (cache_folder() / FOLDER).iterdir()
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    executor, (result, halves) = Slow(model), undisturbed
    assert _upscale(executor, source, settings).output.read_bytes() == result
    assert executor.halves == halves
    assert {path.name for path in elsewhere.iterdir()} == kept


class SlowAtOnce(Slow):
    def shared(self, at_once: int) -> Slow:
        return self


@pytest.mark.parametrize(
    ("kind", "device", "worth"),
    [(Slow, "cpu", 60.0), (Slow, "cuda", SECONDS / 2), (SlowAtOnce, "cpu", SECONDS / 2)],
)
def test_what_is_fast_leaves_nothing(
    model: str,
    source: str,
    settings: UpscaleSettings,
    kind: type[Slow],
    device: str,
    worth: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_tiles, "WORTH_SECONDS", worth)
    monkeypatch.setattr("passionsr_cli.tiling.upscaler.free_bytes", lambda device: 1 << 30)
    monkeypatch.setattr("passionsr_cli.tiling.memory.tiles_at_once", lambda *about: 1)
    monkeypatch.setattr("passionsr_cli.tiling.memory.tiles_in_parallel", lambda *about: 2)
    there = []

    def look(halves: int) -> None:
        there.append((cache_folder() / FOLDER).exists())

    _upscale(kind(model, look, device), source, settings)
    assert set(there) == {False}


def test_pictures_that_nobody_comes_back_to_are_forgotten(
    model: str, source: str, settings: UpscaleSettings, tmp_path: Path
) -> None:
    _interrupt(model, source, settings)
    (left,) = (cache_folder() / FOLDER).iterdir()
    for digit in "0123456789abcdef":
        left.with_name(digit * 24).symlink_to("nowhere")
    other = tmp_path / "other.png"
    Image.effect_noise((20, 12), 50).save(other)
    for days, there in ((ABANDONED_AFTER_DAYS - 1, True), (ABANDONED_AFTER_DAYS + 1, False)):
        then = time.time() - days * 86400
        os.utime(left, (then, then))
        _upscale(Slow(model), str(other), settings.model_copy(update={"overwrite": True}))
        assert left.exists() == there


if __name__ == "__main__":
    kept_tiles.WORTH_SECONDS = SECONDS / 2
    tiny, photograph, result = sys.argv[1:]
    wanted = UpscaleSettings(
        model=tiny, backend="torch", device="cpu", precision="fp32", output=Path(result)
    )
    _upscale(Slow(tiny, _killed), photograph, wanted)
