"""The options of `passionsr reproduce`. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import PositiveInt

from passionsr_cli.config import Backend, Listed, Precision, Settings
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.reproduction.definitions import TableDefinition


class ReproductionSettings(Settings):
    """Options of a reproduction: which table, of which model, on which data.

    `table` is a name of `definitions.table_names()` or a YAML file. `only` keeps the rows whose
    name holds one of these texts. `config` goes on top of what calibrates each row and `images`
    is what it learns from; the first `limit` pairs of the data set are evaluated. Where results
    go is, by default, TABLE-MODEL-DATASET. Images are made in float32, which is what a PSNR to
    full precision needs.
    """

    table: str
    model: str = EMBEDDED_MODEL
    dataset: str = "RealSR"
    data_root: Path | None = None
    only: tuple[str, ...] = ()
    config: str | None = None
    images: Path | None = None
    metrics: Annotated[tuple[str, ...] | None, Listed] = None
    metric_weights: Path | None = None
    limit: PositiveInt | None = None
    output: Path | None = None
    device: str | None = None
    precision: Precision = "fp32"
    backend: Backend = "auto"

    def evaluation(self, table: TableDefinition, output: Path) -> EvaluationSettings:
        """Settings by which the images of a table's rows are made and scored."""
        return EvaluationSettings(
            dataset=self.dataset,
            data_root=self.data_root,
            metrics=self.metrics or table.metrics,
            metric_weights=self.metric_weights,
            protocol=table.protocol,
            limit=self.limit,
            output=output,
            device=self.device or "auto",
            precision=self.precision,
            backend=self.backend,
        )
