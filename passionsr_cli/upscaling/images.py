"""One image: from a picture to a larger one, and from a file to a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.checkpoints.catalogue import check_origin
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError, OutputError, PassionSRError
from passionsr_cli.imaging.decoding import LARGEST_PX
from passionsr_cli.imaging.files import check_output, layout_of, read_picture, write_upscaled
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models.catalogue import check_dial
from passionsr_cli.pixels.strips import made_ahead
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.registry import EMBEDDED_CHECKPOINT, EMBEDDED_MODEL
from passionsr_cli.store import CHECKPOINT, MODEL
from passionsr_cli.system import cpu
from passionsr_cli.system.devices import choose_device, is_intel
from passionsr_cli.system.memory import free_bytes
from passionsr_cli.system.processes import Processes
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.finished import Identity, identity
from passionsr_cli.upscaling.journal import Journal
from passionsr_cli.upscaling.kept_tiles import KeptTiles
from passionsr_cli.upscaling.planning import Job, Present, Refused
from passionsr_cli.upscaling.sizing import TargetSize

# While it is decoded and converted, and the bytes of a result that is encoded as a whole.
BYTES_PER_INPUT_PX = 128
# Asks for full precision where a checkpoint is the default.
NO_CHECKPOINT = "none"

# Hears of a job, what was read for it, and its result where that lies, whole, before it gets its
# name.
Note = Callable[[Job, Identity, Path], None]


def note_nothing(job: Job, read: Identity, result: Path) -> None:
    """Forget a result: the default of those who need not know it again."""


@dataclass(frozen=True)
class Done:
    """One upscaled image; sizes are (width, height), seconds include reading and writing, and are
    its part of those in which several were worked on."""

    source: str
    output: Path
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    seconds: float
    tiles: int

    def __str__(self) -> str:
        width, height = self.output_size
        return f"{self.output}  {width}×{height}  {self.seconds:.1f} s"


@dataclass(frozen=True)
class Skipped:
    """One image whose result was there already."""

    source: str
    output: Path

    def __str__(self) -> str:
        return f"{self.output} is there already"


@dataclass(frozen=True)
class Failed:
    """One image that could not be upscaled, and why."""

    source: str
    error: str

    def __str__(self) -> str:
        return self.error


Outcome = Done | Skipped | Failed


def open_upscaler(
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    processes: Processes | None = None,
    is_only: bool = False,
) -> TiledUpscaler:
    """A model or a checkpoint, ready for images, or for an only one, which takes less memory.

    Of several GPUs each of the processes takes another. Raises `ConfigError` for an overlap that
    tiles cannot have.
    """
    _check_overlap(settings)
    artifact = artifact_for(settings)
    device = settings.device
    if processes is not None and processes.count > 1:
        device = choose_device(device)
    executor = open_executor(artifact, settings.backend, device, settings.precision, reporter)
    return upscaler_with(executor, settings, reporter, is_only)


def _check_overlap(settings: UpscaleSettings) -> None:
    """Refuse more than half of a tile, where both were asked for; the default is cut instead."""
    tile, overlap = settings.tile, settings.overlap
    if tile != "auto" and overlap > tile / 2 > 0 and "overlap" in settings.model_fields_set:
        raise ConfigError(
            f"--overlap: {overlap} pixels are more than half of a tile of {tile}; "
            f"give at most {tile // 2}, or larger tiles"
        )


def upscaler_with(
    executor: Executor,
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    is_only: bool = False,
) -> TiledUpscaler:
    """An opened model under the settings that do not choose another: tiles, colours, realism."""
    return TiledUpscaler(
        executor,
        settings.tile,
        settings.overlap,
        settings.color_fix,
        reporter,
        settings.realism,
        is_only=is_only,
    )


def artifact_for(settings: UpscaleSettings) -> Artifact:
    """The model or checkpoint that the settings name.

    Raises `ModelError` for a checkpoint of another model than they name, `ConfigError` if they set
    a dial that it does not have.
    """
    checkpoint = checkpoint_for(settings)
    if checkpoint is None:
        artifact = resolve(settings.model or EMBEDDED_MODEL, MODEL)
    else:
        artifact = resolve(checkpoint, CHECKPOINT)
        if settings.model is not None:
            check_origin(checkpoint, settings.model)
    check_dial(artifact.description, settings.realism)
    return artifact


def checkpoint_for(settings: UpscaleSettings) -> str | None:
    """The checkpoint that the settings name or imply, None for full precision.

    On a CPU that multiplies 8-bit integers (VNNI or AMX), and on a GPU where triton was asked for,
    the embedded model runs on them, unless `checkpoint` is none or a backend was asked for that
    simulates most of them, as torch and onnxruntime do.
    """
    if settings.checkpoint is not None:
        return None if settings.checkpoint == NO_CHECKPOINT else settings.checkpoint
    embedded = settings.model in (None, EMBEDDED_MODEL)
    return EMBEDDED_CHECKPOINT if embedded and _has_integers(settings) else None


def _has_integers(settings: UpscaleSettings) -> bool:
    """Tell whether checkpoints run on integers here."""
    if settings.backend == "triton":
        return True
    if settings.backend not in ("auto", "openvino") or is_intel(settings.device):
        return False
    return choose_device(settings.device) == "cpu" and cpu.has_integer_products()


def upscale_file(
    upscaler: TiledUpscaler,
    job: Job,
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    journal: Journal | None = None,
    largest_px: int = LARGEST_PX,
    note: Note = note_nothing,
    made_by: str | None = None,
) -> Done:
    """Upscale one image file; the result is written whole or not at all, and strip by strip while
    it is computed, where its format allows that.

    An input of more than `largest_px` pixels is refused before memory is taken for it. With a
    journal the result stays in the journal's folder until it is noted there. `note` hears of it
    before it leaves the place where it is written. With `made_by`, which names model and code, the
    tiles of slow models are kept (see `kept_tiles`) until the result has its name.
    """
    started = time.perf_counter()
    # Before it is read: what changes meanwhile is another image, of which there is no result.
    read = identity(job.source)
    picture = _picture_of(job, settings, reporter, largest_px)
    size = TargetSize.of(settings).of_input(picture.size, upscaler.factor)
    depth = None if settings.depth == "auto" else settings.depth
    check_output(job.output, layout_of(picture, size, depth), settings.depth != "auto")
    place = job.output if journal is None else journal.place_for(job.output)
    large = (picture.size[0] * upscaler.factor, picture.size[1] * upscaler.factor)
    kept = KeptTiles(made_by, upscaler.executor, picture.rgb)

    def write() -> None:
        strips = made_ahead(upscaler.strips(picture.rgb, job.source, reporter, kept.around))
        quality, whole = settings.quality, partial(note, job, read)
        write_upscaled(place, picture, strips, large, size, depth, quality, whole)

    try:
        upscaler.within_memory(write)
    except OutputError as error:
        # A person knows the result, not where it waits for its name.
        raise OutputError(str(error).replace(str(place), str(job.output))) from None
    if journal is not None:
        journal.finish(job, read, place)
    tiles = upscaler.count_tiles(picture.rgb)
    kept.remove()
    if kept.taken_up:
        reporter.note(f"{job.source}: took up {kept.taken_up} of {tiles} tiles from before")
    seconds = time.perf_counter() - started
    return Done(job.source, job.output, picture.size, size, seconds, tiles)


def _picture_of(
    job: Job, settings: UpscaleSettings, reporter: Reporter, largest_px: int
) -> Picture:
    picture = read_picture(job.source, min(largest_px, _largest_input_px()))
    if picture.note:
        reporter.note(f"{job.source}: {picture.note}")
    return picture.stripped() if settings.strip_metadata else picture


def _largest_input_px() -> int:
    """The largest input, in pixels, that the free memory holds."""
    return min(LARGEST_PX, free_bytes("cpu") // BYTES_PER_INPUT_PX)


def upscale_job(
    upscaler: TiledUpscaler,
    job: Job,
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    journal: Journal | None = None,
    note: Note = note_nothing,
    made_by: str | None = None,
) -> Done | Failed:
    """`upscale_file`, with errors that a person can cause or meet told, not raised."""
    try:
        return upscale_file(upscaler, job, settings, reporter, journal, note=note, made_by=made_by)
    except PassionSRError as error:
        named = str(error) if job.source in str(error) else f"{job.source}: {error}"
        return Failed(job.source, named)


def without_work(item: Present | Refused) -> Skipped | Failed:
    """The outcome of an image that nothing is done about."""
    if isinstance(item, Present):
        return Skipped(item.source, item.output)
    return Failed(item.source, str(item.error))
