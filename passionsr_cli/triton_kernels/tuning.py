"""Sizes of blocks: timed once on each GPU for each kind of launch, and kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from passionsr_cli.system.devices import cuda_driver_version
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.system.sources import sources_sha256

# Milliseconds of launches that are timed.
TIMED_MS = 10


class Blocks(NamedTuple):
    """Sizes of a launch: rows and columns of a block of results, how much is summed up in one
    step, warps of a block, and loads under way at once."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


# Of an output's channels, and of the input's a step: of large images, and of smaller ones, whose
# blocks must be small for all of a GPU's units to have one.
PRODUCTS_OF_MANY_ROWS = (
    Blocks(64, 128, 128, 4, 4),
    Blocks(128, 128, 128, 4, 3),
    Blocks(128, 128, 128, 8, 3),
    Blocks(128, 128, 64, 8, 3),
    Blocks(128, 64, 64, 4, 4),
)
PRODUCTS_OF_FEW_ROWS = (
    Blocks(64, 128, 128, 4, 4),
    Blocks(128, 64, 128, 4, 4),
    Blocks(128, 64, 64, 4, 4),
    Blocks(64, 64, 128, 4, 4),
    Blocks(64, 64, 256, 4, 3),
    Blocks(32, 128, 128, 4, 4),
    Blocks(16, 64, 256, 4, 3),
)
MANY_ROWS = 8192
# Of a head's channels (at most), and of the keys a step.
ATTENTIONS = (
    Blocks(64, 128, 32, 4, 2),
    Blocks(64, 256, 32, 8, 2),
    Blocks(128, 128, 64, 8, 2),
    Blocks(64, 64, 64, 4, 3),
    Blocks(64, 64, 128, 4, 2),
    Blocks(32, 64, 32, 4, 2),
)
Launch = Callable[[Blocks], None]


class Tuning:
    """The fastest of some blocks for each case, from a file or by timing all of them once.

    `seconds` times a function. A file that cannot be read is made anew, one that cannot be written
    is done without; several processes keep what each of them found.
    """

    def __init__(self, path: Path, seconds: Callable[[Callable[[], None]], float]) -> None:
        self._path, self._seconds = path, seconds
        self._found = _read(path)

    def choose(
        self, kernel: str, case: Sequence[int], choices: Sequence[Blocks], launch: Launch
    ) -> Blocks:
        """The fastest `choices` of a kernel for a case; those that a GPU cannot launch are none.

        Raises what the last one raised if there is no other.
        """
        key = " ".join([kernel, *map(str, case)])
        if self._found.get(key) not in choices:
            self._found[key] = self._fastest(choices, launch)
            self._keep()
        return self._found[key]

    def _fastest(self, choices: Sequence[Blocks], launch: Launch) -> Blocks:
        times: dict[Blocks, float] = {}
        failure: Exception | None = None
        for blocks in choices:
            try:
                times[blocks] = self._seconds(functools.partial(launch, blocks))
            except (OutOfResources, PTXASError, CompilationError) as error:
                failure = error
        if not times:
            assert failure is not None
            raise failure
        return min(times, key=times.__getitem__)

    def _keep(self) -> None:
        self._found = {**_read(self._path), **self._found}
        with suppress(OSError), replace_atomically(self._path) as temporary:
            temporary.write_text(json.dumps(self._found), encoding="utf-8")


def _read(path: Path) -> dict[str, Blocks]:
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(values, Mapping):
        return {}
    return {
        str(key): Blocks(*sizes)
        for key, sizes in values.items()
        if isinstance(sizes, list) and len(sizes) == len(Blocks._fields)
    }


@functools.cache
def _tuning_of(device: torch.device) -> Tuning:
    made_by = [
        torch.cuda.get_device_name(device),
        cuda_driver_version(),
        triton.__version__,
        sources_sha256("triton_kernels"),
    ]
    key = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:24]
    return Tuning(cache_folder() / "triton" / f"blocks-{key}.json", _seconds)


def products_of(rows: int) -> tuple[Blocks, ...]:
    """Blocks that may suit products of so many rows."""
    return PRODUCTS_OF_MANY_ROWS if rows > MANY_ROWS else PRODUCTS_OF_FEW_ROWS


def _seconds(run: Callable[[], None]) -> float:
    # As a CUDA graph: a launch takes the host longer than the GPU takes for a small layer.
    milliseconds: float = triton.testing.do_bench_cudagraph(run, rep=TIMED_MS)
    return milliseconds / 1000


def launch_fastest(
    kernel: str,
    case: Sequence[int],
    choices: Sequence[Blocks],
    device: torch.device,
    launch: Launch,
) -> None:
    """Launch a kernel with its fastest blocks on a GPU; Triton's interpreter takes the first."""
    blocks = choices[0]
    if not triton.knobs.runtime.interpret:
        blocks = _tuning_of(device).choose(kernel, case, choices, launch)
    launch(blocks)
