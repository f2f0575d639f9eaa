"""The child process of a benchmark: one task as JSON on stdin, its result as JSON on stdout.

python -m passionsr_cli.benchmark.worker
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from passionsr_cli.errors import PassionSRError


def _tasks() -> dict[str, Callable[..., Any]]:
    from passionsr_cli.benchmark import hardware, subjects, timing

    return {
        "machine": hardware.measure_machine,
        "random model": subjects.make_random_model,
        "checkpoint": subjects.make_checkpoint,
        "nncf": subjects.make_nncf_graphs,
        "first tile": timing.first_tile,
        "tiles": timing.time_tiles,
    }


def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Do `request["task"]` with `request["arguments"]`: {"result": …}, or {"error": one line}."""
    try:
        return {"result": _tasks()[request["task"]](**request["arguments"])}
    except PassionSRError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        return {"error": f"unexpected {type(error).__name__}: {line}"}


def main() -> None:
    """Answer the one request on stdin."""
    # Libraries print too; the answer must be alone on stdout.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with answer:
        json.dump(perform(json.load(sys.stdin)), answer)


if __name__ == "__main__":
    main()
