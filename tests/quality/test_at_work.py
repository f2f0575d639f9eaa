"""Large images, whole folders, kills and several processes, measured with `mini`.

    PASSIONSR_AT_WORK=1 pytest -s tests/quality/test_at_work.py

takes about six minutes on two CPU cores.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from passionsr_cli import Done, UpscaleSettings
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import open_upscaler, upscale_file
from passionsr_cli.upscaling.planning import Job
from passionsr_cli.upscaling.run import plan_work, upscale_planned

pytestmark = pytest.mark.skipif(
    "PASSIONSR_AT_WORK" not in os.environ, reason="set PASSIONSR_AT_WORK to measure"
)
PASSIONSR = [sys.executable, "-m", "passionsr_cli"]


def _save(rgb: torch.Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((rgb * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    return path


def _mosaic(width: int, height: int, seed: int = 0) -> torch.Tensor:
    """A photograph of any size, from parts of the samples."""
    photograph = torch.from_numpy(samples.high_resolution("sample:astronaut"))
    across, down = -(-width // 512), -(-height // 512)
    rows = [
        torch.cat([photograph.roll((seed + 97 * i + 31 * j), (1,)) for i in range(across)], 2)
        for j in range(down)
    ]
    return torch.cat(rows, 1)[:, :height, :width]


def _upscale(*arguments: object) -> dict[str, Any]:
    command = [*PASSIONSR, "upscale", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _small_images(folder: Path, count: int, side: int = 128) -> Path:
    for index in range(count):
        _save(_mosaic(side, side, 3 * index), folder / f"{index % 7}" / f"{index:03d}.png")
    return folder


def _measure(tmp_path: Path, width: int, height: int, repeats: int) -> tuple[float, float]:
    """MB at the peak of a process of its own, and seconds once the model is loaded."""
    source = _save(_mosaic(width, height), tmp_path / f"{width}.png")
    settings = UpscaleSettings()
    upscaler, job = open_upscaler(settings), Job(str(source), tmp_path / "again.png")
    # The first run converts, compiles and loads.
    runs = [upscale_file(upscaler, job, settings).seconds for _ in range(1 + repeats)]
    peak = _upscale(source)["peak_memory_bytes"] / 1e6
    print(f"\n{16 * width * height / 1e6:.1f} MP: {peak:.0f} MB, {min(runs[-repeats:]):.2f} s")
    return peak, min(runs[-repeats:])


def test_memory_is_bounded_and_time_follows_the_area(tmp_path: Path) -> None:
    small, large = _measure(tmp_path, 256, 256, 4), _measure(tmp_path, 1000, 750, 2)
    area = 1000 * 750 / 256**2
    memory, duration = large[0] / small[0], large[1] / small[1]
    print(f"area × {area:.2f}: memory × {memory:.2f}, seconds × {duration:.2f}")
    assert memory <= 1.3
    assert abs(duration / area - 1) <= 0.15


def test_a_hundred_megapixels_fit_in_two_gigabytes(tmp_path: Path) -> None:
    assert _measure(tmp_path, 2500, 2500, 0)[0] <= 2000


def _gradient() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 256), torch.linspace(0, 1, 256), indexing="ij")
    return torch.stack([0.2 + 0.5 * y, 0.3 + 0.4 * y + 0.1 * x, 0.5 + 0.4 * y * (1 - 0.2 * x)])


def _sky() -> torch.Tensor:
    """A clear sky above grass: the tiles above hold nothing of what those below hold."""
    sky = _gradient()
    sky[:, 150:] = torch.from_numpy(samples.high_resolution("sample:grass"))[:, :106, :256]
    return sky


SCENES = {
    "gradient": _gradient(),
    "sky above grass": _sky(),
    "rocket": torch.from_numpy(samples.high_resolution("sample:rocket"))[:, :256, 100:356],
    "astronaut": torch.from_numpy(samples.high_resolution("sample:astronaut"))[:, 128:384, 128:384],
}


def _borders(upscaler: TiledUpscaler, side: int) -> torch.Tensor:
    axis = upscaler._axis(side)
    near = torch.zeros(side, dtype=torch.bool)
    for border in (*axis.starts[1:], *(start + axis.length for start in axis.starts[:-1])):
        near[border - 8 : border + 8] = True
    return near[:, None] | near[None, :]


def test_tiles_do_not_show() -> None:
    """Mean over the scenes of |tiled − untiled| along borders of tiles, relative to elsewhere:
    in a single one, what lies at the borders decides."""
    executor = open_upscaler(UpscaleSettings(precision="fp32")).executor
    for tile_px in (416, 512):
        upscaler, ratios = TiledUpscaler(executor, tile_px), []
        for name, lr in SCENES.items():
            whole = TiledUpscaler(executor, 0).upscale(lr.numpy()).rgb
            difference = torch.from_numpy(upscaler.upscale(lr.numpy()).rgb - whole).abs()
            decibels = float(-10 * difference.square().mean().log10())
            near, plane = _borders(upscaler, 1024), difference.mean(0)
            ratios.append(float(plane[near].mean() / plane[~near].mean()))
            print(f"\n{tile_px} px, {name}: {decibels:.1f} dB, seams × {ratios[-1]:.2f}", end="")
            assert decibels >= 45
        print(f"\n{tile_px} px: seams × {sum(ratios) / len(ratios):.2f}")
        assert sum(ratios) / len(ratios) <= 1.1


def test_a_folder_costs_little_more_than_its_computation(tmp_path: Path) -> None:
    folder = _small_images(tmp_path / "in", 200)
    upscaler = open_upscaler(UpscaleSettings())
    images = [read_picture(path).rgb for path in sorted(folder.rglob("*.png"))]
    upscaler.upscale(images[0])
    started = time.perf_counter()
    for image in images:
        upscaler.upscale(image)
    alone = time.perf_counter() - started
    settings = UpscaleSettings(output=tmp_path / "out")
    work = plan_work([str(folder)], settings)
    started = time.perf_counter()
    done = sum(isinstance(item, Done) for item in upscale_planned(upscaler, work, settings))
    folder_seconds = time.perf_counter() - started
    print(f"\n200 images: {alone:.1f} s of computing, {folder_seconds:.1f} s in all")
    print(f"{alone / folder_seconds:.3f} of the throughput")
    assert done == 200
    assert alone / folder_seconds >= 0.9


def test_kills_change_nothing(tmp_path: Path) -> None:
    folder = _small_images(tmp_path / "in", 80)
    _upscale(folder, "--output", tmp_path / "undisturbed")
    out, finished = tmp_path / "out", Counter[str]()
    draw = random.Random(0)
    for _ in range(10):
        started = _count_lines(out)
        command = [*PASSIONSR, "upscale", str(folder), "--output", str(out), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        # Not before it works, and then at any moment.
        while _count_lines(out) == started and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.2))
        process.kill()
        process.wait()
        finished = Counter(json.loads(line)["output"] for line in _lines(out))
    found = _upscale(folder, "--output", out)
    times = dict(Counter(finished.values()))
    print(f"\n{len(found['skipped'])} were there before the last run; computed how often: {times}")
    assert len(found["images"]) + len(found["skipped"]) == 80
    assert _files(out) == _files(tmp_path / "undisturbed")
    assert max(finished.values()) <= 2


def _lines(out: Path) -> list[bytes]:
    files = out.glob(".passionsr/*.jsonl")
    return [
        line for path in files for line in path.read_bytes().splitlines() if line.endswith(b"}")
    ]


def _count_lines(out: Path) -> int:
    return len(_lines(out))


def test_two_processes_make_what_one_makes_though_one_dies(tmp_path: Path) -> None:
    import psutil

    folder, out = _small_images(tmp_path / "in", 40), tmp_path / "two"
    _upscale(folder, "--output", tmp_path / "one")
    # On CPUs `accelerate launch` leaves starting several processes to others.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "--max-restarts=1", "-m", "passionsr_cli", "upscale", str(folder)]
    process = subprocess.Popen([*command, f"--output={out}", "--json"], stdout=subprocess.PIPE)
    while _count_lines(out) < 6:
        time.sleep(0.02)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "passionsr_cli" in child.cmdline() and child.environ().get("RANK") == "1"
    ]
    workers[-1].kill()
    printed, _ = process.communicate(timeout=300)
    found = json.loads(printed)
    assert process.returncode == 0
    assert found["skipped"]
    sources = Counter(item["input"] for item in found["images"] + found["skipped"])
    assert sorted(sources.values()) == [1] * 40
    assert _files(out) == _files(tmp_path / "one")
