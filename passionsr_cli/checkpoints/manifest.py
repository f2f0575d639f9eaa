"""The manifest of a checkpoint: everything there is to know about it but its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import StoreError
from passionsr_cli.quantization.schemes import ATTENTION, AttentionPlan, LayerRecord
from passionsr_cli.store import Entry
from passionsr_cli.system.text import first_fault


class Record(BaseModel):
    """Base of what a manifest consists of: no unknown key, no number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Origin(Record):
    """The model a checkpoint was made from; `sha256` is of its weights."""

    name: str
    sha256: str
    parameters: PositiveInt
    description: ModelDescription


class MethodRecord(Record):
    """The method, with all it was told; `perceptual_loss` is what LPIPS or its substitute was."""

    name: str
    settings: dict[str, JsonValue]
    perceptual_loss: str | None = None


class ImagesRecord(Record):
    """The images a checkpoint was calibrated on; of imported ones only the source is known."""

    source: str
    kind: str | None = None
    count: PositiveInt | None = None
    sha256: str | None = None


class ImportedFile(Record):
    """A file that a checkpoint was imported from."""

    file: str
    sha256: str


@dataclass(frozen=True)
class StageResult:
    """Result of a stage of a calibration.

    The errors are the losses of its output that its fit lowers (the relative squared error where
    it lowers none), over the same few images before and after it; if it made them larger, the
    stage's start stays. `image_psnr` (dB) is the whole model's, with the
    components that are still to come in floating point, to the full-precision image; None if
    they are equal.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    steps: int
    start_error: float | None
    end_error: float | None
    fit_seconds: float
    seconds: float
    image_psnr: float | None

    def __str__(self) -> str:
        quality = "∞" if self.image_psnr is None else f"{self.image_psnr:.2f}"
        return f"{self.name}: {quality} dB to full precision, {self.seconds:.0f} s"


class CheckpointManifest(Record):
    """A checkpoint describes itself.

    `created` is ISO 8601. `settings` are those of the calibration, or of the imported files.
    `bounds` are the smallest and largest representable values by layer and operand, for people.
    `versions` are of the packages that made it.
    """

    created: str
    model: Origin
    bits: str
    numerics: str = "standard"
    settings: dict[str, JsonValue]
    method: MethodRecord
    images: ImagesRecord
    files: tuple[ImportedFile, ...] = ()
    stages: tuple[StageResult, ...]
    image_psnr: float | None
    seconds: NonNegativeFloat
    peak_memory_bytes: NonNegativeInt
    layers: tuple[LayerRecord, ...]
    bounds: dict[str, dict[str, tuple[float, float]]] = {}
    versions: dict[str, str]

    @model_validator(mode="after")
    def _plans_fit_their_layers(self) -> CheckpointManifest:
        names = set[str]()
        for record in self.layers:
            if record.name in names:
                raise ValueError(f"{record.name} is there twice")
            names.add(record.name)
            of_attention = isinstance(record.plan, AttentionPlan)
            if record.plan is not None and of_attention != (record.kind == ATTENTION):
                raise ValueError(f"{record.name} ({record.kind}) has the plan of another kind")
        return self


def created_now() -> str:
    """The moment, as manifests say it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def load_manifest(entry: Entry) -> CheckpointManifest:
    """The manifest of a store entry. Raises `StoreError` that names what is wrong with it."""
    return _validated(entry.manifest, f"the manifest of '{entry.name}' is damaged")


def dump_manifest(manifest: CheckpointManifest) -> dict[str, JsonValue]:
    """A manifest as the store writes it. Raises `StoreError` for one that nobody could read."""
    dumped: dict[str, JsonValue] = manifest.model_dump(mode="json", warnings=False)
    _validated(dumped, "the checkpoint cannot be written")
    return dumped


def _validated(values: Mapping[str, Any], what: str) -> CheckpointManifest:
    try:
        return CheckpointManifest.model_validate(values)
    except ValidationError as error:
        raise StoreError(f"{what}: {first_fault(error)}") from None
