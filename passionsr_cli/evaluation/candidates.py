"""Candidates of a comparison: models, checkpoints, baselines and folders of finished images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from passionsr_cli import __version__
from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.settings import Baseline, EvaluationSettings
from passionsr_cli.graphs.made_by import image_code
from passionsr_cli.models.catalogue import no_dial
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.store import CHECKPOINT, MODEL
from passionsr_cli.system.paths import name_of
from passionsr_cli.system.sources import version_of

Kind = Literal["model", "checkpoint", "baseline", "images"]
PLAIN: tuple[Baseline, ...] = ("bicubic", "lanczos")
# Other versions of these may make other images.
PACKAGES = ("torch", "diffusers", "openvino", "pillow")


@dataclass(frozen=True)
class Candidate:
    """One thing that is compared.

    `artifact` is what makes the images, if a model does (NNCF's has the model it quantizes),
    `folder` where they are if they are finished. `fingerprint` is another if the images could be
    others; it is empty for finished ones. `realism` is the setting of the model's dial, if it has
    one.
    """

    name: str
    kind: Kind
    artifact: Artifact | None = None
    folder: Path | None = None
    fingerprint: str = ""
    realism: float | None = None

    @property
    def of_nncf(self) -> bool:
        return self.kind == "baseline" and self.artifact is not None


def plan_candidates(settings: EvaluationSettings) -> list[Candidate]:
    """Candidates that the settings ask for. Raises `PassionSRError` for what is not there."""
    models, baselines = _models(settings), _baselines(settings)
    found = [model_candidate(name, settings) for name in models]
    if "nncf" in baselines:
        of = models[0] if models else EMBEDDED_MODEL
        found.append(_of_artifact("nncf", "baseline", resolve(of, MODEL), settings))
    found += [checkpoint_candidate(name, settings) for name in settings.checkpoint]
    if settings.realism is not None:
        if all(each.realism is None for each in found):
            raise no_dial("what is compared")
        found = [each for one in found for each in _at_each(one, settings.realism)]
    for folder in settings.images:
        found.append(Candidate(folder.resolve().name, "images", folder=folder))
    for plain in PLAIN:
        if plain in baselines:
            found.append(Candidate(plain, "baseline", fingerprint=_fingerprint(plain)))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two rows would be called '{name}'; rename one of their folders")
    return found


def _at_each(candidate: Candidate, settings: Sequence[float]) -> list[Candidate]:
    """The candidate, or one for each setting if its model has a dial."""
    if candidate.realism is None:
        return [candidate]
    return [
        replace(
            candidate,
            name=f"{candidate.name}@{str(realism).removesuffix('.0')}",
            fingerprint=_fingerprint(candidate.fingerprint, realism),
            realism=realism,
        )
        for realism in dict.fromkeys(settings)
    ]


def model_candidate(name: str, settings: EvaluationSettings) -> Candidate:
    """The candidate of a model at full precision."""
    return _of_artifact(name_of(name), "model", resolve(name, MODEL), settings)


def checkpoint_candidate(name: str, settings: EvaluationSettings) -> Candidate:
    """The candidate of a calibrated model."""
    return _of_artifact(name_of(name), "checkpoint", resolve(name, CHECKPOINT), settings)


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


def _of_artifact(
    name: str, kind: Kind, artifact: Artifact, settings: EvaluationSettings
) -> Candidate:
    fingerprint = _fingerprint(
        kind,
        artifact.fingerprint,
        settings.color_fix or artifact.description.color_fix,
        settings.tile,
        settings.overlap,
        settings.device,
        settings.precision,
        settings.backend,
        version_of("onnxruntime") if settings.backend == "onnxruntime" else "",
        version_of("nncf") if kind == "baseline" else "",
    )
    return Candidate(name, kind, artifact, None, fingerprint, artifact.description.realism)


def _fingerprint(*made_of: object) -> str:
    versions = [version_of(package) for package in PACKAGES]
    made_by = [__version__, versions, image_code("evaluation/generate.py"), *made_of]
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]
