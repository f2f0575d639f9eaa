"""Damage small files of every kind, and count what does not end in a picture or one line of error.

    python tests/quality/fuzz.py --mutants 3000 --command 300

Mutants go through the library, reading, resizing and writing, in processes with bounds of time and
memory; some of them also through the command, in one folder. Mutants that went wrong stay in the
folder of --keep. Exits with 1 if any did.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import imagecodecs
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from corpus import Specimen, specimens

from passionsr_cli.imaging.decoding import LACKS_END

LIMIT_S, LIMIT_BYTES = 20, 2_000_000_000
# Beyond it the machine itself is in danger.
MOST_ADDRESSES = 16_000_000_000
LARGEST_PX = 4_000_000
OUTPUTS = (".png", ".jpg", ".tif", ".webp", ".avif")
FINE = ("read", "refused")
WRONG = ("traceback", "unexpected", "hang", "memory", "crash", "silent damage")
COMMAND_LIMIT_S = 600
# Of a row of pixels on average, as a share of white: what the model changes is far less, and what
# is missing is black.
MOST_WRONG = 0.15


@dataclass(frozen=True)
class Mutant:
    """A damaged file; `whole` is what it was, if nothing but its end was taken."""

    name: str
    content: bytes
    output: str
    whole: Specimen | None


def mutants(count: int, seed: int) -> Iterator[Mutant]:
    """Mutants of all specimens in turn: a third is cut, the others flipped, filled, doubled."""
    kinds, random = list(specimens()), np.random.default_rng(seed)
    for index in range(count):
        specimen = kinds[index % len(kinds)]
        output = OUTPUTS[int(random.integers(len(OUTPUTS)))]
        name = f"{index:05d}-{specimen.name}"
        if random.integers(3) == 0:
            content = specimen.content[: int(random.integers(len(specimen.content)))]
            yield Mutant(name, content, output, specimen)
        else:
            yield Mutant(name, _damaged(specimen.content, random), output, None)


def _damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Changed in one to five places; the beginning, where sizes stand, more than the rest."""
    data = bytearray(content)
    reach = len(data) if random.integers(2) else min(len(data), 200)
    for _ in range(int(random.integers(1, 6))):
        place, kind = int(random.integers(reach)), int(random.integers(6))
        if kind == 0:
            data[place : place + 1] = random.bytes(1)
        elif kind == 1:
            data[place : place + 4] = b"\xff\xff\xff\xff"
        elif kind == 2:
            data[place : place + 4] = bytes(4)
        elif kind == 3:
            data[place:place] = data[place : place + 16]
        elif kind == 4:
            del data[place : place + int(random.integers(1, 9))]
        else:
            data[place : place + 1] = bytes([data[place] ^ 1 << int(random.integers(8))])
        reach = max(1, min(reach, len(data)))
    return bytes(data)


def _process(mutant: Mutant, folder: Path) -> str:
    """What becomes of a mutant in this process."""
    from passionsr_cli.errors import PassionSRError
    from passionsr_cli.imaging.encoding import NO_ALPHA
    from passionsr_cli.imaging.files import read_picture, write_upscaled
    from passionsr_cli.pixels.resampling import bicubic
    from passionsr_cli.pixels.strips import strips_of

    path = folder / mutant.name
    path.write_bytes(mutant.content)
    try:
        picture = read_picture(path, LARGEST_PX)
        if mutant.whole is not None and picture.note is None and not _shows(picture.rgb, mutant):
            return "silent damage"
        size = (picture.size[0] * 2, picture.size[1] * 2)
        large = bicubic(picture.rgb, (size[1], size[0]))
        opaque = picture.alpha is None or mutant.output not in NO_ALPHA
        output = folder / f"result{mutant.output if opaque else '.png'}"
        write_upscaled(output, picture, strips_of(large), size, size)
        return "read"
    except PassionSRError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "unexpected"
    except BaseException:
        return "traceback"


def _shows(rgb: np.ndarray[tuple[int, ...], np.dtype[np.float32]], mutant: Mutant) -> bool:
    shown = mutant.whole.shown if mutant.whole is not None else np.zeros(0)
    same_size = rgb.shape[1:] == shown.shape[:2]
    tolerance = mutant.whole.tolerance if mutant.whole is not None else 0.0
    return same_size and bool(np.abs(rgb.transpose(1, 2, 0) - shown).max() <= tolerance)


def _work(channel: Connection, folder: Path) -> None:
    """Process mutants that come through a channel, each with its own account of memory."""
    from passionsr_cli.system.memory import process_peak_bytes

    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    # Libraries for images talk by themselves.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while (mutant := channel.recv()) is not None:
        Path("/proc/self/clear_refs").write_text("5")
        outcome = _process(mutant, folder)
        channel.send("memory" if process_peak_bytes() > LIMIT_BYTES else outcome)


class Worker:
    """A process for mutants, started again when one took it down."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._start()

    def _start(self) -> None:
        self._channel, other = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_work, args=(other, self._folder), daemon=True)
        self._process.start()
        other.close()

    def outcome(self, mutant: Mutant) -> str:
        if not self._process.is_alive():
            self._start()
        try:
            self._channel.send(mutant)
            # A process that has just started imports for a while.
            if self._channel.poll(LIMIT_S):
                return str(self._channel.recv())
            self._process.kill()
            self._process.join()
            return "hang"
        except (EOFError, OSError):
            self._process.join()
            return "crash"


def through_library(chosen: list[Mutant], folder: Path, processes: int) -> dict[str, str]:
    """The outcome of each mutant, by its name."""
    local, outcomes = threading.local(), {}

    def outcome(mutant: Mutant) -> None:
        if not hasattr(local, "worker"):
            local.worker = Worker(folder / threading.current_thread().name)
        outcomes[mutant.name] = local.worker.outcome(mutant)

    with ThreadPoolExecutor(processes, "worker") as pool:
        list(pool.map(outcome, chosen))
    return outcomes


def _result_shows(result: Path, mutant: Mutant) -> bool:
    """Whether a result, made small again, is what the whole file shows, in each row of pixels."""
    assert mutant.whole is not None
    shown = mutant.whole.shown
    levels = imagecodecs.png_decode(result.read_bytes())
    height, width = levels.shape[:2]
    if (height, width) != (4 * shown.shape[0], 4 * shown.shape[1]):
        return False
    colours = levels.reshape(height, width, -1)[..., : 3 if levels.ndim == 3 else 1]
    small = colours.reshape(height // 4, 4, width // 4, 4, -1).mean((1, 3))
    wrong = np.abs(small / np.iinfo(levels.dtype).max - shown)
    return bool(wrong.mean((1, 2)).max() < MOST_WRONG)


def through_command(chosen: list[Mutant], folder: Path) -> Counter[str]:
    """What the command says of a folder of mutants, and what it needs and makes of them."""
    source, target = folder / "in", folder / "out"
    source.mkdir()
    for mutant in chosen:
        (source / mutant.name).write_bytes(mutant.content)
    command = [sys.executable, "-m", "passionsr_cli", "upscale", str(source), "-o", str(target)]
    command += ["--name", "{stem}_{ext}"]
    counts: Counter[str] = Counter(mutants=len(chosen))
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return counts + Counter(hang=1)
    said = ran.stdout + ran.stderr
    counts["read"] = sum(1 for _ in target.glob("*.png"))
    # In units of 1024 bytes.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    counts["memory"] = int(peak > LIMIT_BYTES)
    for mutant in chosen:
        stem, _, suffix = mutant.name.rpartition(".")
        result = target / f"{stem}_{suffix}.png"
        if mutant.whole is not None and result.exists() and mutant.name not in said:
            counts["silent damage"] += not _result_shows(result, mutant)
    for note in (f"{mutant.name}: {LACKS_END}" for mutant in chosen):
        said = said.replace(note, "")
    counts["refused"] = sum(mutant.name in said for mutant in chosen)
    counts["traceback"], counts["unexpected"] = said.count("Traceback"), said.count("unexpected ")
    counts["debris"] = sum(path.name.startswith(".") for path in target.iterdir())
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=3000)
    parser.add_argument("--command", type=int, default=300, help="so many of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    chosen = list(mutants(given.mutants, given.seed))
    with tempfile.TemporaryDirectory() as place:
        sample = chosen[:: max(1, len(chosen) // given.command)] if given.command else []
        # First, while no other process has ended whose memory would count.
        command = through_command(sample, Path(place)) if sample else Counter()
        outcomes = through_library(chosen, Path(place), given.processes)
    for mutant in chosen:
        if outcomes[mutant.name] in WRONG:
            given.keep.mkdir(exist_ok=True)
            (given.keep / mutant.name).write_bytes(mutant.content)
            print(f"{mutant.name}: {outcomes[mutant.name]}")
    _print_table(outcomes, command)
    wrong = any(outcome in WRONG for outcome in outcomes.values())
    return int(wrong or any(command[outcome] for outcome in WRONG))


def _print_table(outcomes: dict[str, str], command: Counter[str]) -> None:
    columns = (*FINE, *WRONG)
    print("| | mutants | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|")
    suffixes = sorted({Path(name).suffix for name in outcomes})
    for suffix in (*suffixes, ""):
        found = Counter(outcome for name, outcome in outcomes.items() if name.endswith(suffix))
        cells = [str(found.total()), *(str(found[column]) for column in columns)]
        print(f"| {suffix or 'all'} | " + " | ".join(cells) + " |")
    cells = [str(command["mutants"]), *(str(command[column]) for column in columns)]
    print("| by the command | " + " | ".join(cells) + f" |\n\ndebris: {command['debris']}")


if __name__ == "__main__":
    sys.exit(main())
