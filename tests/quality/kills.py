"""Kill long commands at random moments, run them again, and compare with undisturbed runs.

    python tests/quality/kills.py --kills 100 [--verbs upscale,export]

Each command runs on a tiny model in folders of its own, with a home and a cache of its own; what
is downloaded comes slowly from a server of this script's. What two undisturbed runs write alike,
byte by byte, has to be there after a kill (SIGKILL to the whole group, at a random moment) and the
same command again; and nothing else may be. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import importlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

CROP = {"crop_px": 64, "batch_size": 1}
RETRAIN = {
    "lora_rank": 2,
    "validation_crops": 1,
    "validation_every_steps": 4,
    "workers": 0,
    "stages": [
        {"name": "only", "target": "latent", "steps": 12, "learning_rate": 1e-3, **CROP},
    ],
}
DISTIL = {
    "crop_px": 32,
    "batch_size": 1,
    "steps": 12,
    "learning_rate": 1e-3,
    "perceptual": 0.0,
    "validation_crops": 1,
    "validation_every_steps": 4,
    "save_every_seconds": 1,
}
FIT = {"steps": 6, "learning_rate": 0.1}
RANKS = {"linear": 2, "convolution": 2, "pointwise": 2}
CALIBRATE = {
    "crop_px": 32,
    "crops": 2,
    "save_every_seconds": 1,
    "method_settings": {
        "lsq": {"fit": FIT},
        "qdm": {"fit": FIT},
        "efficientdm": {"fit": FIT, "merged_ranks": RANKS},
        "qdiffusion": {"weights": FIT},
        "svdquant": {"ranks": RANKS},
        "passionsr": {"component": FIT},
        "qartsr": {
            "module": {**FIT, "steps": 1},
            "end_to_end": FIT,
            "ranks": {"linear": 4},
            "merged_ranks": {"convolution": 2},
        },
    },
}
IMPORTED = ("api", "cli.app", "calibration.calibrate", "evaluation.run", "training.run")
METHODS = ("maxmin", "lsq", "qdiffusion", "efficientdm", "qdm", "svdquant", "passionsr", "qartsr")
HERE = "--precision fp32 --device cpu"
VERBS = {
    "upscale": f"upscale in -o out --model tiny --backend torch {HERE}",
    "first conversion": f"upscale in/0.png in/1.png -o out --model tiny --backend openvino {HERE}",
    "evaluate": "evaluate --dataset in,hr --limit 6 --metrics psnr,ssim --model tiny -o out "
    f"--backend torch {HERE}",
    "export": "export tiny --format openvino -o out --size 64",
    "train": f"train --from tiny --timestep 49 --name moved --config retrain.yaml {HERE}",
    "distil": f"train --distil-decoder tiny --name light --config distil.yaml {HERE}",
    **{
        f"calibrate {method}": f"calibrate --model tiny --bits w4a4 --method {method} --name c "
        f"--config calibrate.yaml {HERE}"
        for method in METHODS
    },
}
WEIGHTS = random.Random(0).randbytes(1 << 22)
BLOCK_BYTES, SECONDS_PER_BLOCK = 1 << 16, 0.03
# What is left for the next run is not debris: locks, and which folders are finished.
LEFT = ("lock", ".lock")
FINISHED = ("cache", "finished")
LIMIT_S = 600


@dataclass
class Tally:
    """What became of one command's kills."""

    killed: int = 0
    too_late: int = 0
    failed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    debris: list[str] = field(default_factory=list)


class Weights(http.server.BaseHTTPRequestHandler):
    """Sends the weights, block by block, from where they are asked for."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "bytes=0-")
        first = int(wanted.removeprefix("bytes=").partition("-")[0])
        rest = WEIGHTS[first:]
        if not rest:
            self.send_error(416)
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for place in range(0, len(rest), BLOCK_BYTES):
                self.wfile.write(rest[place : place + BLOCK_BYTES])
                time.sleep(SECONDS_PER_BLOCK)

    def log_message(self, format: str, *values: object) -> None:
        pass


@functools.cache
def address_of_weights() -> str:
    """Start the server, once."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weights)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/weights.bin"


def run(verb: str) -> None:
    """Run a verb in this process; `download` as `models pull` and metrics fetch their files: models
    that can be pulled are gigabytes."""
    from passionsr_cli.cli.app import main
    from passionsr_cli.system.downloads import download

    if verb == "download":
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        download(address_of_weights(), Path("weights.bin"), sha256=digest)
    else:
        sys.argv = ["passionsr", *VERBS[verb].split()]
        main()


def prepare(folder: Path) -> None:
    """The inputs of all commands: a tiny model, photographs, settings."""
    import torch
    from PIL import Image

    from passionsr_cli.imaging import samples
    from passionsr_cli.models.loading import save
    from passionsr_cli.models.one_step import OneStepModel
    from passionsr_cli.pixels.arrays import rounded_levels

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import tiny

    torch.manual_seed(0)
    model = OneStepModel(tiny()).eval().requires_grad_(False)
    torch.nn.init.normal_(model.context)
    save(folder / "tiny", model, {})
    pixels = rounded_levels(samples.low_resolution("sample:coffee")).transpose(1, 2, 0)
    (folder / "in").mkdir()
    (folder / "hr").mkdir()
    for index in range(12):
        part = Image.fromarray(pixels[index : index + 40, index : index + 40])
        part.save(folder / "in" / f"{index}.png")
        part.resize((160, 160), Image.Resampling.BICUBIC).save(folder / "hr" / f"{index}.png")
    (folder / "retrain.yaml").write_text(yaml.safe_dump(RETRAIN))
    (folder / "distil.yaml").write_text(yaml.safe_dump(DISTIL))
    (folder / "calibrate.yaml").write_text(yaml.safe_dump(CALIBRATE))


class Running:
    """A command in a process that is forked from this one, which has imported what takes long."""

    def __init__(self, verb: str, place: Path) -> None:
        # Several may run in one place.
        self.errors = place / "tmp" / f"stderr-{id(self)}"
        self.errors.parent.mkdir(exist_ok=True)
        self.process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(verb, place)
        )
        self.process.start()

    def _run(self, verb: str, place: Path) -> None:
        os.setsid()
        os.chdir(place)
        os.environ.update(
            PASSIONSR_HOME=str(place / "home"),
            PASSIONSR_CACHE=str(place / "cache"),
            TMPDIR=str(place / "tmp"),
            HF_HUB_OFFLINE="1",
        )
        tempfile.tempdir = None
        os.dup2(os.open(self.errors, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        run(verb)

    def ended(self) -> bool:
        return not self.process.is_alive()

    def kill(self) -> None:
        os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        self.errors.unlink(missing_ok=True)

    def finish(self) -> str:
        """The last line of a command that failed, else nothing."""
        self.process.join(LIMIT_S)
        if self.process.exitcode is None:
            self.kill()
            return f"not finished within {LIMIT_S} s"
        said = self.errors.read_text(errors="replace").splitlines()
        self.errors.unlink()
        return "" if self.process.exitcode == 0 else (said or ["?"])[-1]


def start(verb: str, inputs: Path, place: Path) -> Running:
    """A command in a folder that holds links to its inputs."""
    place.mkdir(exist_ok=True)
    for path in inputs.iterdir():
        if not (place / path.name).exists():
            (place / path.name).symlink_to(path)
    return Running(verb, place)


def written(place: Path, inputs: Path) -> dict[str, str]:
    """SHA-256 of everything a command wrote, by its path, but for what stays open."""
    given = {path.name for path in inputs.iterdir()}
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and path.relative_to(place).parts[0] not in given
        and path.relative_to(place).parts[:2] != FINISHED
        and not path.name.endswith(LEFT)
    }


@dataclass(frozen=True)
class Undisturbed:
    """What two undisturbed runs of a command wrote: `alike`, with digests, and all `names`."""

    alike: dict[str, str]
    names: frozenset[str]
    seconds: float


def run_undisturbed(verb: str, inputs: Path, place: Path) -> Undisturbed:
    """Run a command twice, in two new folders."""
    runs, seconds = list[dict[str, str]](), float("inf")
    for number in range(2):
        started = time.perf_counter()
        failed = start(verb, inputs, place / f"whole-{number}").finish()
        # The shorter one: a busy machine makes kills early, not too late.
        seconds = min(seconds, time.perf_counter() - started)
        if failed:
            raise SystemExit(f"{verb}: fails undisturbed: {failed}")
        runs.append(written(place / f"whole-{number}", inputs))
    alike = {
        path: digest
        for path, digest in runs[0].items()
        # Compiled graphs are verified before use, and need not be the same twice.
        if runs[1].get(path) == digest and not path.startswith("cache/")
    }
    return Undisturbed(alike, frozenset(runs[0]), seconds)


def try_verb(verb: str, kills: int, inputs: Path, place: Path, chance: random.Random) -> Tally:
    """Kill one command so many times, each time in a new folder; at most as many come too late."""
    tally, whole = Tally(), run_undisturbed(verb, inputs, place)
    while tally.killed < kills and tally.too_late < kills:
        folder = place / f"killed-{tally.killed + tally.too_late}"
        running = start(verb, inputs, folder)
        moment = chance.uniform(0.1, 1) * whole.seconds
        time.sleep(moment)
        too_late = running.ended()
        tally.too_late += too_late
        tally.killed += not too_late
        # Either removes what the process said, which is no debris of the command's.
        (running.finish if too_late else running.kill)()
        at = f"{verb} at {moment:.2f} of {whole.seconds:.2f} s"
        failed = start(verb, inputs, folder).finish()
        if failed:
            tally.failed.append(f"{at}: {failed}")
            continue
        found = written(folder, inputs)
        differ = (path for path, digest in whole.alike.items() if found.get(path) != digest)
        tally.different += [f"{at}: {path}" for path in differ]
        tally.debris += [f"{at}: {path}" for path in found.keys() - whole.names]
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of all commands together")
    parser.add_argument("--verbs", default=",".join((*VERBS, "download")))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    verbs, chance = given.verbs.split(","), random.Random(given.seed)
    print(
        "| command | kills | too late | fails again | other bytes | debris |\n" + "|---" * 6 + "|"
    )
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place) / "inputs"
        inputs.mkdir()
        for name in IMPORTED:
            importlib.import_module(f"passionsr_cli.{name}")
        prepare(inputs)
        address_of_weights()
        for verb in verbs:
            own = Path(place) / verb.replace(" ", "-")
            own.mkdir()
            tally = try_verb(verb, -(-given.kills // len(verbs)), inputs, own, chance)
            lists = (tally.failed, tally.different, tally.debris)
            counts = [tally.killed, tally.too_late, *map(len, lists)]
            print(f"| `{verb}` | " + " | ".join(map(str, counts)) + " |", flush=True)
            wrong += [line for lines in lists for line in lines]
            print("\n".join(line for lines in lists for line in lines), file=sys.stderr, flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
