"""An image apart from its file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.arrays import Array


@dataclass(frozen=True)
class Picture:
    """`rgb` is (3, H, W) float32 in [0, 1], in sRGB; `alpha` (1, H, W) likewise or None.

    `grey` says that the file held no colour, so that none is written back; `depth` its bits per
    channel, 8 or 16. `beyond_srgb` (3, H, W) is what `rgb`, converted back into the colours of
    the file's profile, lacks of them; None where that profile is sRGB or as good as it. `note`
    is what a person should know of the file, such as that it lacks its end.
    """

    rgb: Array
    alpha: Array | None = None
    grey: bool = False
    depth: int = 8
    metadata: Metadata = field(default_factory=Metadata)
    beyond_srgb: Array | None = None
    note: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.rgb.shape[-1]), int(self.rgb.shape[-2])

    def stripped(self) -> Picture:
        """The picture alone, in sRGB, as files without a profile are."""
        return replace(self, metadata=Metadata(), beyond_srgb=None)
