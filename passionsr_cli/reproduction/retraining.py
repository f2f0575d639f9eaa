"""The model of a row: the table's own, or that retrained at another timestep (TRQ, QArtSR,
arXiv 2503.05584), made where it is not there yet."""

from __future__ import annotations

from passionsr_cli.errors import StoreError
from passionsr_cli.layering import settings_from
from passionsr_cli.progress import Reporter
from passionsr_cli.reproduction.definitions import RowDefinition
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.retiming import run
from passionsr_cli.retiming.settings import RetrainingSettings
from passionsr_cli.store import MODEL, Store
from passionsr_cli.system.paths import name_of

PRESET = "retrain"


def model_of(row: RowDefinition, settings: ReproductionSettings) -> str:
    """The name of the model that a row quantizes: MODEL-tTIMESTEP if it is retrained."""
    if row.timestep is None:
        return settings.model
    return f"{name_of(settings.model)}-t{row.timestep}"


def ensure_model(row: RowDefinition, settings: ReproductionSettings, reporter: Reporter) -> None:
    """Retrain the model of a row, unless it needs none or the same is in the store; goes on with a
    run that was stopped. It learns from the table's `images`, or the `sample:` photographs."""
    if row.timestep is None:
        return
    name = model_of(row, settings)
    store = Store(MODEL)
    there = store.exists(name)
    if not there:
        reporter.note(f"retraining {settings.model} at timestep {row.timestep}, as {name}")
    values = {"model": settings.model, "timestep": row.timestep}
    chosen = settings_from([PRESET, values], RetrainingSettings)
    try:
        run.retrain(chosen, settings.images, name, settings.device or "auto", reporter=reporter)
    except StoreError as error:
        if not there:
            raise
        raise StoreError(
            f"the model '{name}' that is there was retrained from another '{settings.model}' or "
            f"otherwise than this row asks; delete {store.folder(name)}"
        ) from error
