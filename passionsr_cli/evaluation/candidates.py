"""The rows of the table: models, checkpoints, baselines and folders of finished images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from passionsr_cli import __version__
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.settings import Baseline, EvaluationSettings
from passionsr_cli.inference.made_by import image_code
from passionsr_cli.inference.open import Source, source_of
from passionsr_cli.models.catalogue import no_dial
from passionsr_cli.registry import EMBEDDED_MODEL

Kind = Literal["model", "checkpoint", "baseline", "images"]
PLAIN: tuple[Baseline, ...] = ("bicubic", "lanczos")


@dataclass(frozen=True)
class Row:
    """One thing that is compared.

    `source` is what makes the images, if a model does (NNCF's row has the model it quantizes),
    `folder` where they are if they are finished. `fingerprint` is another if the images could be
    others; it is empty for finished ones. `realism` is the setting of the model's dial, if it has
    one.
    """

    name: str
    kind: Kind
    source: Source | None = None
    folder: Path | None = None
    fingerprint: str = ""
    realism: float | None = None

    @property
    def of_nncf(self) -> bool:
        return self.kind == "baseline" and self.source is not None


def plan_rows(settings: EvaluationSettings) -> list[Row]:
    """The rows that the settings ask for. Raises `PassionSRError` for what is not there."""
    models, baselines = _models(settings), _baselines(settings)
    rows = [row_of_model(name, settings) for name in models]
    if "nncf" in baselines:
        of = models[0] if models else EMBEDDED_MODEL
        rows.append(_of_source("nncf", "baseline", of, None, settings))
    rows += [row_of_checkpoint(name, settings) for name in settings.checkpoint]
    if settings.realism is not None:
        if all(row.realism is None for row in rows):
            raise no_dial("what is compared")
        rows = [each for row in rows for each in _at_each(row, settings.realism)]
    for folder in settings.images:
        rows.append(Row(folder.resolve().name, "images", folder=folder))
    for plain in PLAIN:
        if plain in baselines:
            rows.append(Row(plain, "baseline", fingerprint=_fingerprint(plain)))
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two rows would be called '{name}'; rename one of their folders")
    return rows


def _at_each(row: Row, settings: Sequence[float]) -> list[Row]:
    """The row, or one for each setting if its model has a dial."""
    if row.realism is None:
        return [row]
    return [
        replace(
            row,
            name=f"{row.name}@{realism:g}",
            fingerprint=_fingerprint(row.fingerprint, realism),
            realism=realism,
        )
        for realism in dict.fromkeys(settings)
    ]


def row_of_model(name: str, settings: EvaluationSettings) -> Row:
    """The row of a model at full precision."""
    return _of_source(Path(name).name, "model", name, None, settings)


def row_of_checkpoint(name: str, settings: EvaluationSettings) -> Row:
    """The row of a calibrated model."""
    return _of_source(Path(name).name, "checkpoint", None, name, settings)


def _models(settings: EvaluationSettings) -> list[str]:
    if settings.model:
        return list(dict.fromkeys(settings.model))
    if settings.checkpoint:
        # The full precision a checkpoint was made from, where that is still here.
        origins = (find_checkpoint(name).manifest.model.name for name in settings.checkpoint)
        return [name for name in dict.fromkeys(origins) if _is_here(name)]
    return [] if settings.images or settings.baseline else [EMBEDDED_MODEL]


def _is_here(model: str) -> bool:
    from passionsr_cli.errors import PassionSRError
    from passionsr_cli.models import catalogue

    try:
        return catalogue.find(model).folder is not None
    except PassionSRError:
        return False


def _baselines(settings: EvaluationSettings) -> tuple[Baseline, ...]:
    if settings.baseline is not None:
        return settings.baseline
    only_finished = settings.images and not settings.model and not settings.checkpoint
    return () if only_finished else ("bicubic",)


def _of_source(
    name: str, kind: Kind, model: str | None, checkpoint: str | None, settings: EvaluationSettings
) -> Row:
    source = source_of(model, checkpoint)
    fingerprint = _fingerprint(
        kind,
        source.fingerprint,
        settings.color_fix or source.description.color_fix,
        settings.tile,
        settings.overlap,
        settings.device,
        settings.precision,
        settings.backend,
    )
    return Row(name, kind, source, None, fingerprint, source.description.realism)


def _fingerprint(*made_of: object) -> str:
    made_by = [__version__, image_code("evaluation/generate.py"), *made_of]
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
