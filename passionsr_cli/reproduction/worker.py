"""The child process of a calibration: a request as JSON on stdin, on stdout one line of JSON for
everything that its listener hears, and for an error if there is one.

python -m passionsr_cli.reproduction.worker
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from typing import Any, TextIO

from passionsr_cli import methods
from passionsr_cli.calibration.calibrate import calibrate_model
from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import PassionSRError
from passionsr_cli.fitting.loop import Progress
from passionsr_cli.system.devices import accelerator


class Teller:
    """Writes what a calibration tells. Who is no longer heard ends: its run can be resumed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def tell(self, **message: Any) -> None:
        try:
            print(json.dumps(message), file=self._out, flush=True)
        except BrokenPipeError:
            os._exit(1)

    def images(self, what: str, done: int, count: int) -> None:
        self.tell(images=[what, done, count])

    def step(self, progress: Progress) -> None:
        self.tell(step=asdict(progress))

    def stage(self, result: StageResult) -> None:
        self.tell(stage=asdict(result))


def perform(request: dict[str, Any], teller: Teller) -> None:
    """Calibrate as `request` says: settings, name, and whether to resume."""
    try:
        settings = CalibrationSettings.model_validate(request["settings"])
        device = accelerator(settings.device, settings.precision)
        method = methods.build(settings)
        calibrate_model(settings, method, request["name"], request["resume"], device, teller)
    except PassionSRError as error:
        teller.tell(error=str(error))
    except Exception as error:
        traceback.print_exc()
        line = (str(error).splitlines() or [""])[0]
        teller.tell(error=f"unexpected {type(error).__name__}: {line}")


def main() -> None:
    """Do what the one request on stdin says."""
    # Libraries print too; messages must be alone on stdout.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with out:
        perform(json.load(sys.stdin), Teller(out))


if __name__ == "__main__":
    main()
