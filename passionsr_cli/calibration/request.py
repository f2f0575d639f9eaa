"""Requests for calibrations, checked as far as that needs no torch, and recorded."""

from __future__ import annotations

from pydantic import JsonValue

from passionsr_cli import methods
from passionsr_cli.checkpoints.manifest import CheckpointManifest
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.imaging.files import images_in
from passionsr_cli.layering import validate
from passionsr_cli.models.catalogue import find_present


def check_request(settings: CalibrationSettings) -> None:
    """Refuse a method, a model or a folder of images that is not there, before seconds of imports.

    Raises `PassionSRError`; `calibrate` itself refuses the same and more.
    """
    methods.build(settings)
    find_present(settings.model)
    if settings.images is not None:
        images_in(settings.images)


def recorded(settings: CalibrationSettings) -> dict[str, JsonValue]:
    """Settings as a manifest holds them, beside the method and its own."""
    held: dict[str, JsonValue] = settings.model_dump(
        mode="json", exclude={"method", "method_settings"}
    )
    return held


def made_with(manifest: CheckpointManifest) -> CalibrationSettings:
    """The settings a checkpoint was made with; those that are newer are as by default.

    Raises `ConfigError` where this version has no such settings.
    """
    method = manifest.method
    of_method = {"method": method.name, "method_settings": {method.name: method.settings}}
    return validate({**manifest.settings, **of_method}, CalibrationSettings, "the checkpoint")
