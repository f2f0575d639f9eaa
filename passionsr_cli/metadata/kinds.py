"""Metadata of a picture: profile, EXIF, XMP, IPTC, resolution, and which way is up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from passionsr_cli.metadata import exif_blocks, xmp_packets

UPRIGHT = 1
# The first orientation whose rows are columns of the picture.
LYING = 5


@dataclass(frozen=True)
class Metadata:
    """The bytes of each kind as the file held them, or None.

    `exif` begins with its TIFF header, without the prefix that JPEG files put before it; `iptc`
    is IIM's records. `resolution` is across and down, in pixels per inch, as containers say it
    apart from EXIF.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None

    @property
    def orientation(self) -> int:
        """EXIF's orientation 1 … 8, else XMP's; 1, upright, where neither is to be had."""
        said = exif_blocks.orientation(self.exif) if self.exif else None
        if said is None and self.xmp:
            said = xmp_packets.orientation(self.xmp)
        return said if said is not None and 1 <= said <= 8 else UPRIGHT

    def upright(self) -> Metadata:
        """The same metadata of a picture that was turned upright; all other bytes stay."""
        turned, lying = self.orientation != UPRIGHT, self.orientation >= LYING
        return replace(
            self,
            exif=self.exif and exif_blocks.upright(self.exif, lying),
            xmp=self.xmp and xmp_packets.upright(self.xmp, turned),
            resolution=self.resolution and (self.resolution[::-1] if lying else self.resolution),
        )

    def of_result(self, source: tuple[int, int], size: tuple[int, int]) -> Metadata:
        """The metadata of a result of `size` (width, height), made from a picture of another.

        Sizes are corrected; thumbnails and what promises more files in this one are left out.
        """
        return replace(
            self,
            exif=self.exif and exif_blocks.of_result(self.exif, size),
            xmp=self.xmp and xmp_packets.of_result(self.xmp, source, size),
        )

    def exif_with_resolution(self) -> bytes | None:
        """EXIF for containers that have no other place for the resolution."""
        if self.resolution is None:
            return self.exif
        return exif_blocks.with_resolution(self.exif or exif_blocks.EMPTY, self.resolution)
