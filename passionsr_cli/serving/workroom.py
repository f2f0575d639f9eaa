"""Upscale uploaded photographs as the command does, with one model kept loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ImageError, PassionSRError
from passionsr_cli.layering import validate
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.serving.choices import choose, default_name
from passionsr_cli.serving.settings import ServeSettings
from passionsr_cli.upscaling.images import (
    Done,
    artifact_for,
    open_upscaler,
    upscale_file,
    upscaler_with,
)
from passionsr_cli.upscaling.planning import Job
from passionsr_cli.upscaling.run import plan_work

if TYPE_CHECKING:
    from passionsr_cli.inference.executor import Executor
    from passionsr_cli.tiling.upscaler import TiledUpscaler


class Workroom:
    """Makes one result at a time; the model of the last one stays loaded."""

    def __init__(self, settings: ServeSettings) -> None:
        self.limits = settings
        machine = {"device", "precision", "backend"}
        self._machine = settings.model_dump(include=machine)
        self._executor: Executor | None = None
        self._opened = ""

    def default_name(self) -> str:
        """The model or checkpoint of requests that name none."""
        return default_name(UpscaleSettings.model_validate(self._machine))

    def settings(
        self,
        model: str | None = None,
        realism: float | None = None,
        scale: float | None = None,
        format: str | None = None,
    ) -> UpscaleSettings:
        """Settings of a request; what is None is as in `passionsr upscale`. Raises
        `PassionSRError` for what that refuses."""
        named = choose(model).options if model else {}
        options = {**self._machine, **named, "realism": realism, "scale": scale, "format": format}
        given = {key: value for key, value in options.items() if value is not None}
        return validate(given, UpscaleSettings, "the request")

    def upscale(
        self,
        upload: Path,
        name: str | None,
        folder: Path,
        settings: UpscaleSettings,
        reporter: Reporter = SILENT,
    ) -> Done:
        """Upscale an upload into an empty folder, named as the command names its result.

        `name` is that of the file at its owner's; errors call it so. Raises `PassionSRError`.
        """
        source = _under_its_name(upload, name, folder)
        into = settings.model_copy(update={"output": folder})
        try:
            upscaler = self._upscaler(into, reporter)
            (planned,) = plan_work([str(source)], into).planned
            if not isinstance(planned, Job):
                raise ImageError(str(getattr(planned, "error", planned)))
            return upscale_file(
                upscaler, planned, into, reporter, largest_px=self.limits.largest_px
            )
        except PassionSRError as error:
            told = str(error).replace(f"{folder}{os.sep}", "")
            raise type(error)(told if source.name in told else f"{source.name}: {told}") from None

    def _upscaler(self, settings: UpscaleSettings, reporter: Reporter) -> TiledUpscaler:
        fingerprint = artifact_for(settings).fingerprint
        if self._executor is None or fingerprint != self._opened:
            # Two large models may not fit in memory.
            self._executor = None
            self._executor, self._opened = open_upscaler(settings, reporter).executor, fingerprint
        return upscaler_with(self._executor, settings, reporter)


def _under_its_name(upload: Path, name: str | None, folder: Path) -> Path:
    """The upload in `folder` under the last part of `name`, or under its own where that is none."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    for candidate in (last, upload.name):
        path = folder / candidate
        if candidate in ("", ".", "..") or "\0" in candidate:
            continue
        try:
            os.link(upload, path)
        except OSError:
            continue
        return path
    raise ImageError(f"{last or upload.name}: is no longer here; upload it again")
