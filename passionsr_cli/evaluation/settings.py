"""The options of `passionsr evaluate`. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from passionsr_cli.config import Backend, Listed, Precision, Settings, listed
from passionsr_cli.description import ColorFix, Realism
from passionsr_cli.metrics.catalogue import Protocol, metrics_of

Baseline = Literal["bicubic", "lanczos", "nncf"]


def _baselines(value: object) -> object:
    return () if value == "none" else listed(value)


class EvaluationSettings(Settings):
    """Options of an evaluation: candidates, data set, metrics.

    `dataset` is a name of `datasets.KNOWN`, a folder, or two folders 'LR,HR'. Every model,
    checkpoint, baseline and folder of finished images is a row. Without any there are the
    embedded model and bicubic; beside checkpoints stand, unless said otherwise, the models they
    were made from and bicubic. `metrics` None are all of the protocol. What has a dial is a row for
    each `realism`; None is the default setting.
    """

    dataset: str = "sample"
    data_root: Path | None = None
    model: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    baseline: Annotated[tuple[Baseline, ...] | None, BeforeValidator(_baselines)] = None
    metrics: Annotated[tuple[str, ...] | None, Listed] = Field(default=None, min_length=1)
    metric_weights: Path | None = None
    protocol: Protocol = "osediff"
    strict: bool = False
    color_fix: ColorFix | None = None
    realism: Annotated[tuple[Realism, ...] | None, Listed] = Field(default=None, min_length=1)
    output: Path | None = None
    limit: PositiveInt | None = None
    published: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    tile: NonNegativeInt = 512
    overlap: NonNegativeInt = 48

    @model_validator(mode="after")
    def _the_protocol_has_the_metrics(self) -> EvaluationSettings:
        metrics_of(self.protocol, self.metrics)
        return self
