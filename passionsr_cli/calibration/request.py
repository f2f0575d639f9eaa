"""Check of what is asked of a calibration, as far as that needs no torch."""

from __future__ import annotations

from passionsr_cli import methods
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.imaging.files import images_in
from passionsr_cli.models.catalogue import find_present


def check_request(settings: CalibrationSettings) -> None:
    """Refuse a method, a model or a folder of images that is not there, before seconds of imports.

    Raises `PassionSRError`; `calibrate` itself refuses the same and more.
    """
    methods.build(settings)
    find_present(settings.model)
    if settings.images is not None:
        images_in(settings.images)
