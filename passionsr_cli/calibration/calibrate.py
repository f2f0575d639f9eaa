"""From settings to a checkpoint in the store: claiming a run, checking room, writing the result."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from os.path import exists
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from passionsr_cli import __version__, methods
from passionsr_cli.allocation import plan_files
from passionsr_cli.allocation.layer_plans import check_design, check_names
from passionsr_cli.allocation.mixed_precision import within_budget
from passionsr_cli.budget import Budget
from passionsr_cli.calibration import curves
from passionsr_cli.calibration.bits import completed
from passionsr_cli.calibration.engine import Calibration
from passionsr_cli.calibration.request import made_with, recorded
from passionsr_cli.checkpoints.catalogue import (
    Checkpoint,
    bits_of,
    find_checkpoint,
    mean_weight_bits,
)
from passionsr_cli.checkpoints.curve_file import write_curve
from passionsr_cli.checkpoints.manifest import (
    CheckpointManifest,
    ImagesRecord,
    MethodRecord,
    Origin,
    created_now,
)
from passionsr_cli.checkpoints.tensors import write_checkpoint
from passionsr_cli.checkpoints.unfinished import (
    SETTINGS_FILE,
    from_anywhere,
    run_folder,
    save_request,
    saved_origin,
    saved_settings,
)
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data import calibration_images
from passionsr_cli.errors import ConfigError, DeviceError, StoreError
from passionsr_cli.forecast import capacity
from passionsr_cli.models import catalogue, loading
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.registry import EMBEDDED_CHECKPOINT
from passionsr_cli.store import CHECKPOINT, Store
from passionsr_cli.system.claims import claim, clear
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.memory import is_out_of_memory, peak_bytes
from passionsr_cli.system.paths import home
from passionsr_cli.system.text import in_bytes

# What may differ when a run is taken up again: where it runs, and rates that made it diverge.
FREE_ON_RESUME = ("learning_rate", "final_learning_rate", "gradient_clip", "device")


def calibrate(
    settings: CalibrationSettings | None = None,
    name: str | None = None,
    reporter: Reporter = SILENT,
) -> Checkpoint:
    """Quantize a model and write it as a checkpoint, by default named MODEL-BITS-METHOD.

    The unfinished run lives in the user's data directory under `calibration/NAME`; one process at
    a time holds it. The same call takes it up from its last saved step, and it ends as it would
    have without the stop; what is finished is returned as it is. Other settings are refused, and
    so are other weights or images under the same names. What settings leave out is as the command
    has it: starts of narrow bits, layers that a budget frees.
    """
    settings = completed(settings or CalibrationSettings())
    name = name or settings.default_name()
    finished = _finished(name, settings)
    if finished is not None:
        reporter.note(f"'{name}' is finished already")
        return finished
    used = accelerator(settings.device, settings.precision, reporter)
    alone = claim(run_folder(name), "calibrating")
    with alone if used.is_main_process else contextlib.nullcontext():
        return _calibrate(settings, name, used, reporter)


def _calibrate(
    settings: CalibrationSettings, name: str, used: Accelerator, reporter: Reporter
) -> Checkpoint:
    method = methods.build(settings)
    store, folder = Store(CHECKPOINT), run_folder(name)
    begun = _begun(store, folder, name, settings)
    before = saved_origin(name) if begun else {}
    # No process may find what another one has begun.
    used.wait_for_everyone()
    known = catalogue.find_present(settings.model)
    check_names(known.description, settings)
    check_design(known.description, settings, method.design)
    chosen = calibration_images.gather(settings, known.description)
    origin = {"model": known.sha256, "images": chosen.fingerprint()}
    _check_origin(before, origin, name, settings)
    if chosen.hr is None and any(stage.target == "hr" for stage in method.stages):
        raise ConfigError("the decoder's target is 'hr', but the images are low-resolution ones")
    disk = capacity.check_disk(home(), known.description, settings)
    memory = capacity.check_memory(known.description, settings, method, str(used.device))
    if not begun:
        reporter.note(f"takes about {memory / 1e9:.1f} GB of memory and {in_bytes(disk)} of disk")
    model = loading.load(settings.model)
    model.description = model.description.hearing_both_ends
    with _clear_errors():
        if used.is_main_process and not begun:
            clear(folder)
        planned = within_budget(model, settings, method, chosen, folder, used, reporter)
        run = Calibration(model, planned, method, chosen, folder, used, reporter)
        if used.is_main_process:
            save_request(name, settings, origin)
        run.run()
        if used.is_main_process:
            with store.whole_or_absent(name):
                _write(store.folder(name), run, _manifest(run, settings, known, chosen))
            shutil.rmtree(folder)
    used.wait_for_everyone()
    return find_checkpoint(name)


def _write(folder: Path, run: Calibration, manifest: CheckpointManifest) -> None:
    """Curve and pictures, then the checkpoint: until its manifest is there, there is none."""
    write_curve(folder, run.curve.rows)
    if run.settings.layer_bits:
        named = run.settings.layer_bits
        planned = (each for each in run.records if each.plan is not None or each.name in named)
        bits = {
            record.name: bits_of(record)
            + (named[record.name].rank_name if record.name in named else "")
            for record in planned
        }
        plan_files.write_plan(folder / plan_files.PLAN_FILE, bits)
        plan_files.draw_plan(folder / plan_files.PICTURE_FILE, folder.name, run.records)
    picture = folder / curves.PICTURE_FILE
    curves.draw_run(picture, folder.name, run.curve.rows, manifest.stages, run.study())
    write_checkpoint(folder.name, manifest, run.model)


def _finished(name: str, settings: CalibrationSettings) -> Checkpoint | None:
    """The checkpoint of this name, if the same settings made it from the same model and images."""
    if not Store(CHECKPOINT).exists(name):
        return None
    made, known = find_checkpoint(name), catalogue.find_present(settings.model)
    method = methods.build(settings)
    try:
        before = made_with(made.manifest)
        was = methods.build(before)
    except ConfigError:
        # Imported, or with settings that are no more.
        return None
    same = (
        from_anywhere(recorded(before)) == from_anywhere(recorded(settings))
        and (was.name, was.settings) == (method.name, method.settings)
        and made.manifest.model.sha256 == known.sha256
        and not images_changed(made.manifest.images, settings, known)
    )
    return made if same else None


def images_changed(
    before: ImagesRecord, settings: CalibrationSettings, known: catalogue.KnownModel
) -> bool:
    """True if the folder of a finished calibration's images is there and holds others now."""
    if before.sha256 is None or settings.images is None or not exists(settings.images):
        return False
    return calibration_images.fingerprint_of(settings, known.description) != before.sha256


def _begun(store: Store, folder: Path, name: str, settings: CalibrationSettings) -> bool:
    """True if an earlier call began a checkpoint of this name with these settings."""
    if name == EMBEDDED_CHECKPOINT:
        raise StoreError(f"'{name}' is the name of the embedded checkpoint; choose another --name")
    if store.exists(name):
        raise StoreError(
            f"a checkpoint named '{name}' exists already; choose another --name, or delete it "
            f"with `passionsr checkpoints remove {name}`"
        )
    if not (folder / SETTINGS_FILE).exists():
        return False
    before, now = (_comparable(each) for each in (saved_settings(name), settings))
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise ConfigError(
            f"an unfinished calibration '{name}' was begun with another {changed[0]}: "
            f"{before[changed[0]]}, not {now[changed[0]]}; go on with its own settings by --resume "
            "alone, choose another --name, or delete it with "
            f"`passionsr checkpoints remove {name}`"
        )
    return True


def _check_origin(
    before: dict[str, str], now: dict[str, str], name: str, settings: CalibrationSettings
) -> None:
    """Refuse to go on with other weights or images than those an unfinished run began with."""
    changed = [key for key in now if before.get(key, now[key]) != now[key]]
    if changed:
        key = changed[0]
        what = {
            "model": f"other weights of the model '{settings.model}'",
            "images": f"other images of {settings.images or 'the sample: photographs'}",
        }[key]
        raise ConfigError(
            f"an unfinished calibration '{name}' was begun with {what} (SHA-256 "
            f"{before[key][:12]}…, now {now[key][:12]}…); put those back, choose another --name, "
            f"or delete it with `passionsr checkpoints remove {name}`"
        )


def _comparable(settings: CalibrationSettings) -> dict[str, Any]:
    def kept(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: kept(item) for key, item in value.items() if key not in FREE_ON_RESUME}

    cleaned: dict[str, Any] = kept(from_anywhere(settings.model_dump(mode="json")))
    return cleaned


def _manifest(
    run: Calibration,
    settings: CalibrationSettings,
    known: catalogue.KnownModel,
    chosen: calibration_images.CalibrationImages,
) -> CheckpointManifest:
    """Everything there is to know about a checkpoint but its tensors."""
    import accelerate
    import diffusers

    return CheckpointManifest(
        created=created_now(),
        model=Origin(
            name=settings.model,
            sha256=known.sha256,
            parameters=run.parameters,
            description=known.description,
        ),
        bits=_bits(settings, run),
        settings=recorded(settings),
        method=MethodRecord(
            name=run.method.name,
            settings=run.method.settings,
            perceptual_loss=run.perceptual_name,
        ),
        images=ImagesRecord(
            source=str(settings.images or "the sample: photographs"),
            kind="lr" if chosen.hr is None else "hr, degraded",
            count=len(chosen),
            sha256=chosen.fingerprint(),
        ),
        stages=tuple(run.results),
        image_psnr=run.results[-1].image_psnr,
        seconds=run.curve.seconds(),
        peak_memory_bytes=peak_bytes(str(run.accelerator.device)),
        layers=tuple(run.records),
        bounds={name: layer.nudged_bounds() for name, layer in run.frozen.items()},
        versions={
            "passionsr": __version__,
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
            "accelerate": accelerate.__version__,
        },
    )


def _bits(settings: CalibrationSettings, run: Calibration) -> str:
    """Name of a checkpoint's bits: where layers were given bits of their own, the mean of a weight,
    as a budget would be written."""
    mean = mean_weight_bits(run.records) if settings.layer_bits and not settings.budget else None
    return settings.bits_name if mean is None else Budget(weight_bits=round(mean, 2)).name


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Full memory and full disks in words; what was saved before stays."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"cannot write under {home()}: {error}; make room and start it again"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(f"out of memory: {capacity.ADVICE}; then start it again") from error
