"""The child of `children.run_child`: one request as JSON on stdin, on stdout a line of JSON for
everything that is reported, and at last one for the result or the error.

python -m passionsr_cli.system.child
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, TextIO

from passionsr_cli.errors import PassionSRError
from passionsr_cli.progress import NO_DETAILS
from passionsr_cli.system import interruptions


class Teller:
    """A reporter that writes lines. Who is no longer heard ends: its work can be resumed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, kind: str, *values: object) -> None:
        """One line: {kind: [values]}."""
        try:
            print(json.dumps({kind: values}), file=self._out, flush=True)
        except BrokenPipeError:
            os._exit(1)

    def started(self, task: str, total: float | None = None) -> None:
        self.tell("started", task, total)

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.tell("step", task, done, dict(details))

    def note(self, text: str) -> None:
        self.tell("note", text)

    def done(self, result: object) -> None:
        self.tell("done", str(result))


def perform(request: Mapping[str, Any], teller: Teller) -> None:
    """Call the function that `request` names and tell its result, or its error in one line."""
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        reporting = {"reporter": teller} if request["reports"] else {}
        teller.tell("result", function(**request["arguments"], **reporting))
    except PassionSRError as error:
        teller.tell("error", str(error))
    except Exception as error:
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        teller.tell("error", f"unexpected {type(error).__name__}: {line}")


def main() -> None:
    """Do what the one request on stdin says."""
    # Who ends a group of processes ends this one twice; the parent kills it when it waited enough.
    interruptions.interrupt_at_end(lambda: None)
    # Libraries print too; what is told must be alone on stdout.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with out:
        perform(json.load(sys.stdin), Teller(out))


if __name__ == "__main__":
    main()
