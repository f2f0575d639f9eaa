"""The options of `passionsr serve`. Imports no torch."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from passionsr_cli.config import Backend, Precision, Settings

LOOPBACK = "127.0.0.1"


def _host_name(name: str) -> str:
    if not re.fullmatch(r"(\*\.)?[\w.-]+", name):
        raise ValueError(f"found '{name}', expected a name alone, such as photos.example.org")
    return name


class ServeSettings(Settings):
    """Options of a server. Only this machine reaches it unless `host` is an address of its own.
    With a `name`, or several, requests for another than these and localhost are refused.

    Without a `port` it is the first free one from 7860. A photograph has at most `max_megapixels`,
    its result sixteen times as many; `queue` requests wait at most, one is worked on.
    """

    host: str = LOOPBACK
    name: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    max_megapixels: Annotated[float, Field(gt=0, le=100)] = 16.0
    queue: PositiveInt = 20
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"

    @property
    def largest_px(self) -> int:
        """Pixels of the largest photograph that is taken."""
        return round(self.max_megapixels * 1e6)
