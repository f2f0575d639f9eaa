"""The verbs as functions: what the command line does, for Python programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.config import CalibrationSettings, UpscaleSettings

if TYPE_CHECKING:
    from passionsr_cli.benchmark.measurements import Row
    from passionsr_cli.benchmark.run import Report
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.calibration.progress import Listener
    from passionsr_cli.checkpoints.catalogue import Checkpoint
    from passionsr_cli.evaluation.listener import Listener as EvaluationListener
    from passionsr_cli.evaluation.results import Results
    from passionsr_cli.evaluation.settings import EvaluationSettings
    from passionsr_cli.export.exporting import ExportReport
    from passionsr_cli.fitting.loop import Progress
    from passionsr_cli.imaging.planning import Planned
    from passionsr_cli.inference.tiled import TiledUpscaler
    from passionsr_cli.reproduction.listener import Listener as TableListener
    from passionsr_cli.reproduction.results import Table
    from passionsr_cli.reproduction.settings import ReproductionSettings
    from passionsr_cli.store import Entry
    from passionsr_cli.system.processes import Processes
    from passionsr_cli.training.retrainer import Agreement
    from passionsr_cli.training.settings import RetrainingSettings, TrainingSettings
    from passionsr_cli.training.sweep import Sweep, SweepRow
    from passionsr_cli.training.validation import Validation
    from passionsr_cli.upscaling.journal import Journal
    from passionsr_cli.upscaling.run import Outcomes, Work


def plan_upscale(inputs: Sequence[str], settings: UpscaleSettings) -> Work:
    """The images that `inputs` (files, folders, patterns, `sample:NAME`) name, where results will
    go, and how far an interrupted run had come."""
    from passionsr_cli.upscaling.run import plan_work

    return plan_work(inputs, settings)


def open_upscaler(
    settings: UpscaleSettings,
    on_note: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
) -> TiledUpscaler:
    """A model or a checkpoint, ready for images; `on_note` hears what a person should know.

    Of several GPUs each of the processes takes another.
    """
    from passionsr_cli.upscaling import images

    return images.open_upscaler(settings, on_note, processes)


def upscale(
    inputs: Sequence[str],
    settings: UpscaleSettings | None = None,
    on_tile: Callable[[str, float], None] = lambda source, share: None,
) -> Outcomes:
    """Upscale images; a failure is reported and the others go on.

    Outcomes come in the order of the inputs. Several images overlap, and `on_tile`, which hears
    what share of an image is done, is called from their threads. Raises `PassionSRError` before
    the first image if the model or the device cannot be had. With `engine` ray in the settings
    the work is shared on a cluster, and outcomes come in no order.
    """
    settings = settings or UpscaleSettings()
    work = plan_upscale(inputs, settings)
    if settings.engine == "ray":
        return upscale_on_ray(settings, work)
    return upscale_planned(open_upscaler(settings), work, settings, on_tile=on_tile)


def upscale_planned(
    upscaler: TiledUpscaler,
    work: Work,
    settings: UpscaleSettings,
    processes: Processes | None = None,
    on_tile: Callable[[str, float], None] = lambda source, share: None,
) -> Outcomes:
    """Work through what `plan_upscale` returned, or through this process's part of it."""
    from passionsr_cli.system.processes import Processes
    from passionsr_cli.upscaling.run import overlapped, upscale_all

    def start(planned: Sequence[Planned], journal: Journal | None) -> Outcomes:
        return overlapped(upscaler, planned, settings, journal, on_tile)

    return upscale_all(work, processes or Processes(), start)


def upscale_on_ray(settings: UpscaleSettings, work: Work) -> Outcomes:
    """Work through what `plan_upscale` returned on the Ray cluster that this machine belongs to,
    or else on one of its own."""
    from passionsr_cli.system.processes import Processes
    from passionsr_cli.upscaling.on_ray import upscale_on_ray
    from passionsr_cli.upscaling.run import upscale_all

    return upscale_all(work, Processes(), partial(upscale_on_ray, settings))


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
    from passionsr_cli.system.devices import accelerator
    from passionsr_cli.training.run import train_model

    return train_model(
        settings, photos, name, accelerator(device, precision), on_step, on_validation
    )


def retrain(
    settings: RetrainingSettings,
    photos: Path | None,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_agreement: Callable[[Agreement], None] = lambda row: None,
) -> Entry:
    """Move a model to another timestep and store it as `name`; goes on where a run stopped.

    Without `photos` it learns on the `sample:` photographs.
    """
    from passionsr_cli.system.devices import accelerator
    from passionsr_cli.training.run import retrain_model

    return retrain_model(
        settings, photos, name, accelerator(device, precision), on_step, on_agreement
    )


def sweep_timesteps(
    settings: CalibrationSettings,
    timesteps: Sequence[int],
    retrained: Sequence[str] = (),
    picture: Path | None = None,
    on_row: Callable[[SweepRow], None] = lambda row: None,
) -> Sweep:
    """Quantize a model as it is at each of these timesteps, and `retrained` ones at their own,
    each against itself in full precision; drawn into `picture` (PNG, SVG or PDF) if one is named.
    """
    from passionsr_cli.system.devices import accelerator
    from passionsr_cli.training import sweep, sweep_picture

    used = accelerator(settings.device, settings.precision)
    done = sweep.sweep_timesteps(settings, timesteps, retrained, used, on_row)
    if picture is not None:
        sweep_picture.draw_sweep(picture, done)
    return done


def calibrate(
    settings: CalibrationSettings | None = None,
    name: str | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> Checkpoint:
    """Quantize a model and write it as a checkpoint, by default named MODEL-BITS-METHOD.

    With `resume`, an unfinished calibration of that name goes on from its last saved step and
    ends as it would have without the stop.
    """
    from passionsr_cli import methods
    from passionsr_cli.calibration.calibrate import calibrate_model
    from passionsr_cli.calibration.progress import Quiet
    from passionsr_cli.system.devices import accelerator

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
    from passionsr_cli.models.published import adding
    from passionsr_cli.models.published.recipes import find_recipe

    parts = adding.Parts(base, lora, context)
    return adding.add_model(name, find_recipe(recipe, name), parts, overwrite, on_step)


def import_checkpoint(
    files: Sequence[Path],
    config: Path,
    model: str,
    name: str | None = None,
    numerics: str = "standard",
    on_note: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Make a checkpoint of files that PassionSR's authors published, and their YAML.

    `numerics` is standard, this package's, or released, exactly that of their code.
    """
    from passionsr_cli.checkpoints.released import importing

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
    from passionsr_cli.inference.open import source_named

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


def reproduce(settings: ReproductionSettings, listener: TableListener | None = None) -> Table:
    """A table of a paper, with our numbers beside the published ones.

    Calibrates what is missing, each in a process of its own, evaluates, and writes table.md,
    table.csv and table.html beside what an evaluation writes. What was done before is not done
    again. A row that fails says why and the others go on.
    """
    from passionsr_cli.reproduction import run
    from passionsr_cli.reproduction.listener import Listener

    return run.reproduce(settings, listener or Listener())


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
