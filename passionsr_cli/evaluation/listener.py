"""Who hears how an evaluation goes."""

from __future__ import annotations


class Listener:
    """Does nothing by itself."""

    def note(self, text: str) -> None:
        """Something a person should know."""

    def start(self, what: str, row: str, count: int) -> None:
        """So many images of a row are now upscaled, or scored."""

    def advance(self) -> None:
        """One of them is done."""
