"""Real use at full size: Stable Diffusion 2.1's architecture as somebody with its weights has it.

    python tests/quality/full_size.py FOLDER [STEP ...]

Random weights are written into FOLDER in the published format (a diffusers folder, OSEDiff's
pickle). Then each step is a command in a process of its own, which is killed once on the way and
started again: `models add`, `calibrate`, `upscale` of 1000×750 to 4000×3000, `export`, `train
--distil-decoder`. Seconds, peak memory and what was told beforehand become the table that is
printed, and stay in FOLDER, so that the same command goes on after a stop and measures nothing
twice; what no later step reads is removed. Of the calibration, each stage is measured over one
image and two steps; the steps and images of the preset make minutes of that. It takes about a
quarter of an hour of two quiet cores, half an hour of one (`OMP_NUM_THREADS=1`), and 12 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PRESET, NAME, BITS = "full-size-cpu", "full-size", "w8a8"
STEPS, IMAGES, DISTILLING_STEPS = 2, 1, 3
RECORD = "record.json"
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True)
class Taken:
    """What a command took: seconds until it was killed, then those of the same command to its end
    and of all processors in it, and the peak memory of both in bytes; `told` is what it said
    beforehand."""

    killed_after: float
    seconds: float
    processor_seconds: float
    peak: int
    told: tuple[str, ...]
    found: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A command, when it is killed, what its JSON or its log tells, and what in the folder no later
    step reads."""

    arguments: Callable[[Path], list[str]]
    kill_at: str | float
    result: Callable[[str, str], dict[str, Any]] = lambda output, log: {}
    spent: tuple[str, ...] = ()


def _running(
    arguments: list[str], folder: Path, kill_at: str | float | None
) -> tuple[float, int, str, str]:
    """Seconds, peak memory, output and log of a command, killed after so many seconds or where its
    log says this."""
    output, log = folder / "output.txt", folder / "log.txt"
    environment = {
        **os.environ,
        "PASSIONSR_HOME": str(folder),
        "PASSIONSR_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "passionsr_cli", *arguments]
    started, peak = time.monotonic(), 0
    with output.open("w") as out, log.open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, cwd=folder)
        while process.poll() is None:
            seconds = time.monotonic() - started
            found = PEAK.search(Path(f"/proc/{process.pid}/status").read_text())
            peak = int(found[1]) * 1024 if found else peak
            late = isinstance(kill_at, float) and seconds > kill_at
            if late or (isinstance(kill_at, str) and re.search(kill_at, log.read_text())):
                process.kill()
            time.sleep(0.1)
    if kill_at is None and process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {log.read_text()[-2000:]}")
    return time.monotonic() - started, peak, output.read_text(), log.read_text()


def measure(step: Step, folder: Path) -> Taken:
    """Kill a command once, then run it to its end."""
    arguments = step.arguments(folder)
    killed_after, first, _, told = _running(arguments, folder, step.kill_at)
    before = _processor_seconds()
    seconds, second, output, log = _running(arguments, folder, None)
    processors, peak = _processor_seconds() - before, max(first, second)
    said = tuple(line for line in told.splitlines() if line.startswith("takes about"))
    for name in step.spent:
        shutil.rmtree(folder / name)
    return Taken(killed_after, seconds, processors, peak, said, step.result(output, log))


def _processor_seconds() -> float:
    """Those of the commands that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def write_base(folder: Path) -> None:
    """A random model of this shape in the published format, in a process that ends with it."""
    if not (folder / "osediff.pkl").exists():
        here = Path(__file__).parent
        program = "import sys; from pathlib import Path; from test_published import write_published"
        program += "; write_published(Path(sys.argv[1]), 'folder')"
        paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", program, str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})


def _photograph(folder: Path) -> str:
    from PIL import Image

    from passionsr_cli.imaging.samples import low_resolution

    path = folder / "photo.png"
    pixels = (low_resolution("sample:coffee").transpose(1, 2, 0) * 255).round().astype("uint8")
    Image.fromarray(pixels).resize((1000, 750), Image.Resampling.BICUBIC).save(path)
    return str(path)


def _config(folder: Path, name: str, values: dict[str, Any]) -> str:
    path = folder / f"{name}.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(values))
    return str(path)


def _short(folder: Path) -> list[str]:
    """The preset over so few images and steps a stage."""
    from passionsr_cli.layering import presets, read_yaml

    own = {"passionsr": {"component": {"steps": STEPS, "learning_rate": 1.0}}}
    values = {**read_yaml(presets()[PRESET]), "crops": IMAGES, "method_settings": own}
    return [*_calibrating(_config(folder, "short", values), NAME), "--json"]


def _calibrating(config: str, name: str) -> list[str]:
    options = {"model": "mine", "bits": BITS, "config": config, "name": name}
    return ["calibrate", *(f"--{key}={value}" for key, value in options.items())]


def _stages(output: str, log: str) -> dict[str, Any]:
    return {"stages": json.loads(output)["stages"]}


def _pace(output: str, log: str) -> dict[str, Any]:
    return {"steps a second": float(re.findall(r"steps/s ([\d.e+-]+)", log)[-1])}


def _distilled(folder: Path) -> list[str]:
    values = {"steps": DISTILLING_STEPS, "validation_crops": 1, "learning_rate": 5.0e-4}
    config = _config(folder, "few-steps", values)
    return ["train", "--distil-decoder", "mine", "--name", "light", "--config", config, "--json"]


STEP_OF = {
    "models add": Step(
        lambda folder: [
            *("models", "add", "mine", "--base", str(folder / "base")),
            *("--lora", str(folder / "osediff.pkl"), "--recipe", "passionsr-fp"),
        ],
        "merging",
        spent=("base",),
    ),
    # In the second of its three stages.
    f"calibrate --config {PRESET}, {STEPS} steps": Step(_short, "unet: 1/", _stages),
    "upscale": Step(
        lambda folder: [
            *("upscale", _photograph(folder), "--checkpoint", NAME, "--overwrite"),
            *("--precision", "bf16", "-o", str(folder / "large.png")),
        ],
        # Of two quiet cores: converted, and some tiles done. Its log does not tell of tiles.
        120.0,
        spent=("cache",),
    ),
    "export --format openvino": Step(
        lambda folder: ["export", NAME, "--output", str(folder / "exported"), "--json"],
        30.0,
        spent=("exported",),
    ),
    f"train --distil-decoder, {DISTILLING_STEPS} steps": Step(_distilled, "decoder: 1/", _pace),
}


def tell(folder: Path) -> Taken:
    """What the preset itself says before it begins, after which it is killed."""
    seconds, peak, _, log = _running(_calibrating(PRESET, "night"), folder, "minutes:")
    shutil.rmtree(folder / "calibration" / "night", ignore_errors=True)
    told = tuple(line for line in log.splitlines() if line.startswith("takes about"))
    return Taken(seconds, 0.0, 0.0, peak, told, {})


def table(taken: dict[str, Taken]) -> str:
    """The table of the page of measurements, and what it says of the preset."""
    lines = [
        "| command | killed after, s | then, s | processors, s | peak GB |",
        "|---|" + 4 * "---|",
    ]
    for name, each in taken.items():
        cells = f"{each.killed_after:.0f} | {each.seconds:.0f} | {each.processor_seconds:.0f}"
        cells += f" | {each.peak / 1e9:.1f}"
        lines.append(f"| `{name}` | {cells} |")
    for name, each in taken.items():
        lines += [f"{name}: {line}" for line in each.told]
        lines += [f"{name}: {each.found}" if each.found else ""]
    stages = next((each.found["stages"] for each in taken.values() if "stages" in each.found), ())
    if stages:
        from passionsr_cli import methods
        from passionsr_cli.calibration.bits import settings_for

        settings = settings_for(BITS, PRESET, {})
        fits = {stage.name: stage.fit for stage in methods.build(settings).stages}
        for stage in stages:
            fit = fits[stage["name"]]
            learning = stage["fit_seconds"] / stage["steps"]
            looking = (stage["seconds"] - stage["fit_seconds"]) * settings.crops / IMAGES
            minutes = (learning * fit.steps + looking) / 60
            lines.append(
                f"{stage['name']}: {learning:.1f} s a step, {minutes:.0f} minutes of the preset"
            )
    return "\n".join(line for line in lines if line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("step", nargs="*", help="the beginnings of their names; default: all")
    given = parser.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    taken = {}
    if record.exists():
        taken = {name: Taken(**values) for name, values in json.loads(record.read_text()).items()}
    write_base(folder)
    todo: dict[str, Callable[[], Taken]] = {
        name: lambda step=step: measure(step, folder) for name, step in STEP_OF.items()
    }
    todo[f"calibrate --config {PRESET}"] = lambda: tell(folder)
    for name, run in todo.items():
        wanted = not given.step or any(name.startswith(each) for each in given.step)
        if wanted and name not in taken:
            taken[name] = run()
            record.write_text(json.dumps({key: asdict(each) for key, each in taken.items()}))
            print(f"{name}: {taken[name]}", flush=True)
    print(table(taken))


if __name__ == "__main__":
    main()
