"""The verbs as functions: what the command line does, for Python programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.config import CalibrationSettings, TrainingSettings, UpscaleSettings
from passionsr_cli.errors import PassionSRError

if TYPE_CHECKING:
    from passionsr_cli.benchmark.rows import Row
    from passionsr_cli.benchmark.run import Report
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.calibration.progress import Listener
    from passionsr_cli.evaluation.listener import Listener as EvaluationListener
    from passionsr_cli.evaluation.results import Results
    from passionsr_cli.evaluation.settings import EvaluationSettings
    from passionsr_cli.export.exporting import ExportReport
    from passionsr_cli.fitting.loop import Progress
    from passionsr_cli.imaging.planning import Job, Refused
    from passionsr_cli.runtime.upscaler import Upscaler
    from passionsr_cli.store import Entry
    from passionsr_cli.training.validation import Validation


@dataclass(frozen=True)
class Done:
    """One upscaled image; sizes are (width, height), seconds include reading and writing."""

    source: str
    output: Path
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    seconds: float
    tiles: int


@dataclass(frozen=True)
class Failed:
    """One image that could not be upscaled, and why."""

    source: str
    error: str


def plan_upscale(inputs: Sequence[str], settings: UpscaleSettings) -> list[Job | Refused]:
    """The images that `inputs` (files, folders, `sample:NAME`) name and where results will go."""
    from passionsr_cli.imaging.planning import plan
    from passionsr_cli.runtime.backends import source_of

    factor = source_of(settings.model, settings.checkpoint).description.upscale_factor
    return plan(inputs, settings.output, f"_x{factor}", settings.overwrite)


def open_upscaler(
    settings: UpscaleSettings, on_note: Callable[[str], None] = lambda text: None
) -> Upscaler:
    """A model or a checkpoint, ready for images; `on_note` hears what a person should know."""
    from passionsr_cli.runtime.backends import open_executor, source_of
    from passionsr_cli.runtime.upscaler import Upscaler

    source = source_of(settings.model, settings.checkpoint)
    executor = open_executor(source, settings.backend, settings.device, settings.precision, on_note)
    return Upscaler(executor, settings.tile, settings.overlap, settings.color_fix)


def upscale_file(
    upscaler: Upscaler, job: Job, on_tile: Callable[[float], None] = lambda share: None
) -> Done:
    """Upscale one image file; the result is written whole or not at all."""
    from passionsr_cli.imaging.files import Picture, check_output, read_picture, write_picture
    from passionsr_cli.runtime.upscaler import upscale_alpha

    started = time.perf_counter()
    picture = read_picture(job.source)
    check_output(job.output, picture.alpha is not None)
    result = upscaler.upscale(picture.rgb, on_tile)
    alpha = None if picture.alpha is None else upscale_alpha(picture.alpha, upscaler.factor)
    large = Picture(result.rgb, alpha, picture.grey, picture.icc_profile)
    write_picture(job.output, large)
    seconds = time.perf_counter() - started
    return Done(job.source, job.output, picture.size, large.size, seconds, result.tiles)


def upscale(
    inputs: Sequence[str],
    settings: UpscaleSettings | None = None,
    on_tile: Callable[[str, float], None] = lambda source, share: None,
) -> Iterator[Done | Failed]:
    """Upscale images one after the other; a failure is reported and the others go on.

    Raises `PassionSRError` before the first image if the model or the device cannot be had.
    """
    settings = settings or UpscaleSettings()
    planned = plan_upscale(inputs, settings)
    return upscale_planned(open_upscaler(settings), planned, on_tile)


def upscale_planned(
    upscaler: Upscaler,
    planned: Sequence[Job | Refused],
    on_tile: Callable[[str, float], None] = lambda source, share: None,
) -> Iterator[Done | Failed]:
    """Work through what `plan_upscale` returned."""
    from passionsr_cli.imaging.planning import Refused

    for item in planned:
        if isinstance(item, Refused):
            yield Failed(item.source, str(item.error))
            continue
        try:
            yield upscale_file(upscaler, item, partial(on_tile, item.source))
        except PassionSRError as error:
            named = str(error) if item.source in str(error) else f"{item.source}: {error}"
            yield Failed(item.source, named)


def train(
    settings: TrainingSettings,
    photos: Path,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_validation: Callable[[Validation], None] = lambda scores: None,
) -> Entry:
    """Train a model from the photographs of a folder; goes on where an earlier run stopped."""
    from passionsr_cli.runtime.devices import accelerator
    from passionsr_cli.training.run import train_model

    return train_model(
        settings, photos, name, accelerator(device, precision), on_step, on_validation
    )


def calibrate(
    settings: CalibrationSettings | None = None,
    name: str | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> Entry:
    """Quantize a model and write it as a checkpoint, by default named MODEL-BITS-METHOD.

    With `resume`, an unfinished calibration of that name goes on from its last saved step and
    ends as it would have without the stop.
    """
    from passionsr_cli import methods
    from passionsr_cli.calibration.progress import Quiet
    from passionsr_cli.calibration.runs import calibrate_model
    from passionsr_cli.runtime.devices import accelerator

    settings = settings or CalibrationSettings()
    return calibrate_model(
        settings,
        methods.build(settings),
        name or settings.default_name,
        resume,
        accelerator(settings.device, settings.precision),
        listener or Quiet(),
    )


def add_model(
    name: str,
    base: Path,
    lora: Path | None = None,
    context: Path | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda text: None,
) -> Entry:
    """Make a model of a base model's folder or file, with adapters merged into it.

    `context` is the embedding of the prompt, by default of the empty one; `recipe` a registered
    name or a YAML file.
    """
    from passionsr_cli.models import adding
    from passionsr_cli.models.recipes import find_recipe

    parts = adding.Parts(base, lora, context)
    return adding.add_model(name, find_recipe(recipe, name), parts, overwrite, on_step)


def import_checkpoint(
    files: Sequence[Path],
    config: Path,
    model: str,
    name: str | None = None,
    numerics: str = "standard",
    on_note: Callable[[str], None] = lambda text: None,
) -> Entry:
    """Make a checkpoint of files that PassionSR's authors published, and their YAML.

    `numerics` is standard, this package's, or released, exactly that of their code.
    """
    from passionsr_cli.calibration import importing

    chosen = importing.checked_numerics(numerics)
    return importing.import_checkpoint(files, config, model, name, chosen, on_note)


def export(
    name: str,
    format: str,
    output: Path | None = None,
    size: int | None = None,
    target: str | None = None,
    on_step: Callable[[str], None] = lambda text: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> ExportReport:
    """Write a checkpoint or a model for another runtime, run it there and compare.

    `format` is openvino, onnx or safetensors; `output` a folder that does not exist yet, by
    default NAME-FORMAT; `size` fixes the sides of the upscaled image in pixels. `on_step` hears
    what is going on, `on_note` what a person should know.
    """
    from passionsr_cli.export.exporting import export_source, fitting_size
    from passionsr_cli.export.formats import find_format
    from passionsr_cli.runtime.backends import source_named

    form = find_format(format, target)
    source = source_named(name)
    folder = output or Path(f"{Path(name).name}-{format}")
    if size is not None:
        size = fitting_size(source.description, size, on_note)
    return export_source(name, source, form, folder, size, on_step)


def evaluate(
    settings: EvaluationSettings | None = None, listener: EvaluationListener | None = None
) -> Results:
    """Compare models, checkpoints and finished images on a data set, as rows of one table.

    Writes images, results.json, results.csv and report.html into `settings.output`. What was
    upscaled or scored there before, of the same files with the same settings, is not done again.
    """
    from passionsr_cli.evaluation import run
    from passionsr_cli.evaluation.listener import Listener
    from passionsr_cli.evaluation.settings import EvaluationSettings

    return run.evaluate(settings or EvaluationSettings(), listener or Listener())


def bench(
    settings: BenchmarkSettings | None = None,
    on_note: Callable[[str], None] = lambda text: None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Report:
    """How fast a model runs here in each form and on each backend, each in its own process.

    A row that fails says why and the others go on. Raises `PassionSRError` before any work if the
    settings cannot be.
    """
    from passionsr_cli.benchmark import run
    from passionsr_cli.benchmark.settings import BenchmarkSettings

    return run.benchmark(settings or BenchmarkSettings(), on_note, on_row)
