"""Export: write, reload, run, compare, and only then put the folder in its place."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from passionsr_cli import __version__
from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.conversion.kernels import KernelReport, kernel_report
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, OutputError, StoreError
from passionsr_cli.exports.fidelity import DEFAULT_SIZE_PX, PHOTOGRAPH, Fidelity, define
from passionsr_cli.exports.formats import Format, find_format
from passionsr_cli.exports.unfinished import Unfinished, unfinished_export
from passionsr_cli.inference.open import RELEASED_IS_SIMULATED
from passionsr_cli.models.schedule import rates
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.claims import claim
from passionsr_cli.system.files import read_json, remove, sha256_of
from passionsr_cli.system.memory import process_peak_bytes, returned_when_freed
from passionsr_cli.system.paths import StrPath, name_of

MODEL_FILE, REPORT_FILE = "model.json", "report.json"
FORMAT_VERSION = 3
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class ExportReport:
    """Report of an export: what was written, and how it compares with the definition.

    `seconds` and `peak_memory_bytes` are those of the whole export and its process.
    """

    source: str
    format: str
    target: str | None
    precision: str
    folder: str
    size_px: int | None
    fidelity: Fidelity
    photograph: str
    kernels: KernelReport
    bytes: int
    seconds: float
    peak_memory_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source,
            "format": self.format,
            "target": self.target,
            "precision": self.precision,
            "output": self.folder,
            "size_px": self.size_px,
            "photograph": self.photograph,
            "realism": self.fidelity.realism,
            "psnr": self.fidelity.psnr,
            "required_psnr": self.fidelity.required_psnr,
            "largest_difference": self.fidelity.largest_difference,
            "layers": self.kernels.as_dict(),
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ExportReport:
        """The report that a folder holds: `as_dict`, and the names of its `kernels`."""
        return cls(
            source=values["source"],
            format=values["format"],
            target=values["target"],
            precision=values["precision"],
            folder=values["output"],
            size_px=values["size_px"],
            fidelity=Fidelity(
                values["psnr"],
                values["largest_difference"],
                values["required_psnr"],
                values["realism"],
            ),
            photograph=values["photograph"],
            kernels=kernel_report(values["kernels"]),
            bytes=values["bytes"],
            seconds=values["seconds"],
            peak_memory_bytes=values["peak_memory_bytes"],
        )


def export(
    name: str,
    format: str,
    output: StrPath | None = None,
    size: int | None = None,
    target: str | None = None,
    precision: str | None = None,
    reporter: Reporter = SILENT,
) -> ExportReport:
    """Write a checkpoint or a model for another runtime, run it there and compare.

    `format` is openvino, onnx or safetensors; `output` a folder that does not exist yet, by
    default NAME-FORMAT; `size`, not of safetensors, fixes the sides of the upscaled image in
    pixels, the next size that the model takes; `precision`, of onnx, is fp32 or fp16, the type of
    all that is not quantized, by default fp16 for the target tensorrt.
    """
    form = find_format(format, target, precision, size)
    artifact = resolve(name)
    folder = Path(output or f"{name_of(name)}-{format}")
    if size is not None:
        size = fitting_size(artifact.description, size, reporter)
    return export_artifact(name, artifact, form, folder, size, reporter)


def export_artifact(
    name: str,
    artifact: Artifact,
    form: Format,
    folder: Path,
    size_px: int | None,
    reporter: Reporter,
) -> ExportReport:
    """Export a model or a checkpoint into a new folder.

    A folder that holds the same export already, whole, is left as it is. Raises `OutputError` if
    it holds anything else or cannot be written, `StoreError` if what was written does not compute
    what the definition does; nothing is left of it then. What a kill or Ctrl-C left is taken up by
    the same export, and removed by another. Of several at once one exports, and the others are told
    so.
    """
    started = time.perf_counter()
    if artifact.simulated and form.name != "safetensors":
        raise ConfigError(f"{RELEASED_IS_SIMULATED}; export it with --format safetensors")
    try:
        # The name of `.` is that of the folder it means.
        place = Path(os.path.realpath(folder))
        place.parent.mkdir(parents=True, exist_ok=True)
        working = place.parent / f".{place.name}.exporting"
        with claim(working, "exporting"):
            if place.exists():
                remove(working / UNFINISHED)
                return _finished(folder, name, artifact, form, size_px)
            identity = _identity(name, artifact, form, size_px)
            with unfinished_export(working / UNFINISHED, identity, reporter) as unfinished:
                fidelity, kernels = _write_and_compare(
                    artifact, form, unfinished, size_px, reporter
                )
                files = unfinished.files
                _describe(files, identity, artifact.description)
                report = ExportReport(
                    source=name,
                    format=form.name,
                    target=form.target,
                    precision=form.precision,
                    folder=str(folder),
                    size_px=size_px,
                    fidelity=fidelity,
                    photograph=PHOTOGRAPH,
                    kernels=kernels,
                    bytes=sum(path.stat().st_size for path in _all_but(files, REPORT_FILE)),
                    seconds=time.perf_counter() - started,
                    peak_memory_bytes=process_peak_bytes(),
                )
                kernel_names = {"kernels": asdict(kernels)}
                _write_json(files / REPORT_FILE, {**report.as_dict(), **kernel_names})
                os.rename(files, place)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return report


def fitting_size(description: ModelDescription, size_px: int, reporter: Reporter) -> int:
    """`size_px`, or the next size the model can take, of which `reporter` then hears."""
    unit = description.unit_px
    if size_px <= 0:
        raise ConfigError(f"a size of {size_px} px cannot be; use a multiple of {unit}")
    fitting = -(-size_px // unit) * unit
    if fitting != size_px:
        reporter.note(f"sizes of '{description.name}' are multiples of {unit}: {fitting} px it is")
    return fitting


def _write_and_compare(
    artifact: Artifact,
    form: Format,
    unfinished: Unfinished,
    size_px: int | None,
    reporter: Reporter,
) -> tuple[Fidelity, KernelReport]:
    # The exported model gets the memory afterwards.
    with returned_when_freed():
        model = artifact.load()
        form.check(model)
        reporter.started(f"running the definition on {PHOTOGRAPH}")
        side = size_px or DEFAULT_SIZE_PX
        definition = define(model, side, form.precision, unfinished.definition)
        reporter.started(f"writing {form.name}, component by component")
        form.write(model, artifact, unfinished.files, size_px)
        del model
    reporter.started("running what was written")
    executor = form.open(unfinished.files, artifact.description)
    fidelity = definition.compare(executor)
    if not fidelity.sufficient:
        raise StoreError(
            f"the exported model comes to {fidelity.psnr:.1f} dB of its definition on "
            f"{PHOTOGRAPH}, {fidelity.required_psnr:.1f} dB were expected; nothing was written"
        )
    return fidelity, executor.kernels()


def _describe(folder: Path, identity: dict[str, Any], description: ModelDescription) -> None:
    """All that a program needs to run the components, and the checksums of their files."""
    signal_rate, noise_rate = rates(description) or (None, None)
    values = {
        "kind": "export",
        **identity,
        "model": description.name,
        "licence": description.licence,
        "upscale_factor": description.upscale_factor,
        "size_multiple_px": description.size_multiple_px,
        "margin_px": description.margin_px,
        "plain_px": description.plain_px,
        "latent_factor": description.latent_factor,
        "color_fix": description.color_fix,
        "encoder": description.encoder,
        "prediction": description.prediction,
        "signal_rate": signal_rate,
        "noise_rate": noise_rate,
        "dial": _dial(description),
        "files": _checksums(folder),
    }
    _write_json(folder / MODEL_FILE, values)


def _identity(name: str, artifact: Artifact, form: Format, size_px: int | None) -> dict[str, Any]:
    """Facts that make an export another one."""
    return {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "format": form.name,
        "target": form.target,
        "precision": form.precision,
        "source": name,
        "fingerprint": artifact.fingerprint,
        "size_px": size_px,
    }


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of an export but for the two that describe it."""
    return {path.name: sha256_of(path) for path in _all_but(folder, MODEL_FILE, REPORT_FILE)}


def _all_but(folder: Path, *names: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in names)


def _finished(
    folder: Path, name: str, artifact: Artifact, form: Format, size_px: int | None
) -> ExportReport:
    """The report of the same export, which is there already and whole.

    Raises `OutputError` if the folder is anything else.
    """
    try:
        stored, report = read_json(folder / MODEL_FILE), read_json(folder / REPORT_FILE)
        wanted = _identity(name, artifact, form, size_px)
        same = {key: stored.get(key) for key in wanted} == wanted
        if same and stored["files"] == _checksums(folder):
            # It may have been moved since.
            return replace(ExportReport.from_dict(report), folder=str(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise OutputError(f"{folder} exists already; choose another --output or delete it")


def _dial(description: ModelDescription) -> dict[str, Any] | None:
    """Instructions for mixing the UNet's heads, which follow each other along its channels."""
    if description.realism is None:
        return None
    return {
        "heads": ["faithful", "natural"],
        "noise": f"({description.pixel_strength:g} - realism) * faithful + realism * natural",
        "default": description.realism,
        "pixel_strength": description.pixel_strength,
    }


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
