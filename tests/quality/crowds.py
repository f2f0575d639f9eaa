"""Start one command several times at once in one folder, and compare with undisturbed runs.

    python tests/quality/crowds.py [--processes 4] [--verbs upscale,export]

Processes may share the work, or be refused in a line that says who holds it; one at least has to
finish, and after it everything has to be there, byte by byte, and nothing else. Exits with 1 if
not.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from kills import VERBS, prepare, run_undisturbed, start, written

HELD = re.compile(r"process \d+ on .*, \w+ since")


def try_together(verb: str, processes: int, inputs: Path, place: Path) -> tuple[int, list[str]]:
    """How many processes finished their work, and what went wrong."""
    whole = run_undisturbed(verb, inputs, place)
    running = [start(verb, inputs, place / "together") for _ in range(processes)]
    said = [process.finish() for process in running]
    found = written(place / "together", inputs)
    wrong = [f"failed: {line}" for line in said if line and not HELD.search(line)]
    wrong += [f"differs: {x}" for x, digest in whole.alike.items() if found.get(x) != digest]
    wrong += [f"too much: {path}" for path in found.keys() - whole.names]
    return said.count(""), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--verbs", default=",".join((*VERBS, "download")))
    given = parser.parse_args()
    print(
        "| command | at once | finished | refused, with who holds it | wrong |\n" + "|---" * 5 + "|"
    )
    anything = False
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place) / "inputs"
        inputs.mkdir()
        prepare(inputs)
        for verb in given.verbs.split(","):
            own = Path(place) / verb.replace(" ", "-")
            own.mkdir()
            finished, wrong = try_together(verb, given.processes, inputs, own)
            anything = anything or bool(wrong) or not finished
            refused = given.processes - finished
            print(
                f"| `{verb}` | {given.processes} | {finished} | {refused} | {len(wrong)} |",
                flush=True,
            )
            print(
                "".join(f"{verb}: {line}\n" for line in wrong), end="", file=sys.stderr, flush=True
            )
    return int(anything)


if __name__ == "__main__":
    sys.exit(main())
