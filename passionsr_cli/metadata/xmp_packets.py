"""XMP packets (ISO 16684-1): what they say of their file, corrected where it stands.

All other bytes stay. Properties are known by their namespaces, whatever prefixes they have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")
_TAG = re.compile(
    r"<(?P<closing>/?)(?P<name>[\w.:-]+)"
    r"(?P<attributes>(?:\s+[\w.:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*(?P<empty>/?)>"
)
_ATTRIBUTE = re.compile(r"\s+([\w.:-]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_PREFIX = re.compile(r"xmlns:([\w.-]+)\s*=\s*[\"']([^\"']*)[\"']")
_NUMBER = re.compile(r"\s*(\d{1,9})\s*")

GOOGLE, EXIF = "http://ns.google.com/photos/1.0/", "http://ns.adobe.com/exif/1.0/"
# Whole namespaces, of files and maps behind or beside the image; what upscaling makes has none.
PAYLOADS = (
    *(GOOGLE + name for name in ("container/", "container/item/", "image/", "audio/", "depthmap/")),
    "http://ns.google.com/photos/dd/1.0/",
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/depthData/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.adobe.com/xmp/note/",
)
VIDEO = re.compile(re.escape(GOOGLE + "camera/") + "(MotionPhoto|MicroVideo)")
THUMBNAILS = "http://ns.adobe.com/xap/1.0/Thumbnails"
# As in EXIF: area and place of the subject, and how close pixels lay on the sensor.
IN_SOURCE_PIXELS = tuple(EXIF + name for name in ("SubjectArea", "SubjectLocation", "FocalPlane"))
# Where faces are, in shares of the sides. Programs disagree whether these are the stored picture's
# or the upright one's, so that they cannot be turned.
MWG_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
IPTC_REGIONS = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/ImageRegion"
REGIONS = (
    MWG_REGIONS + "Regions",
    "http://ns.microsoft.com/photo/1.2/RegionInfo",
    IPTC_REGIONS,
)
_IN_PIXELS = re.compile(rb"rbUnit\W{1,9}pixel\b")
# The size that they were marked at, whose parts other things have as well, such as paper.
MARKED_SIZE = MWG_REGIONS + "AppliedToDimensions"
PANORAMA = GOOGLE + "panorama/"
# The axis along which a property measures the image, 0 for its width.
SIZES = {
    EXIF + "PixelXDimension": 0,
    EXIF + "PixelYDimension": 1,
    "http://ns.adobe.com/tiff/1.0/ImageWidth": 0,
    "http://ns.adobe.com/tiff/1.0/ImageLength": 1,
}
# Lengths and places that grow with the image: in a panorama, and of what regions were marked on.
GROWING_AXES = {"Width": 0, "Left": 0, "w": 0, "Height": 1, "Top": 1, "h": 1}
_IN_PANORAMA = re.compile(re.escape(PANORAMA) + r"\w*(Width|Left|Height|Top)(?:Pixels)?")
_OF_MARKED_SIZE = re.compile(
    re.escape(MARKED_SIZE + "http://ns.adobe.com/xap/1.0/sType/Dimensions#") + "([wh])"
)

Size = tuple[int, int]
Edit = tuple[int, int, str]
# Whether a property goes; and edits of the number at a place of the text, by its full name.
Goes = Callable[[str], bool]
Numbers = Callable[[str, int, str], Iterator[Edit]]


def orientation(xmp: bytes) -> int | None:
    """The orientation 1 … 8 that a packet names, None where it names none."""
    found = _ORIENTATION.search(xmp)
    return int(found[2]) if found else None


def upright(xmp: bytes, turned: bool) -> bytes:
    """A packet whose picture is upright now; one that was `turned` has no regions."""
    said = _ORIENTATION.sub(rb"\g<1>1", xmp)
    return _edited(said, lambda name: name in REGIONS, _no_edits) if turned else said


def of_result(xmp: bytes, source: Size, size: Size) -> bytes:
    """A packet for a result of `size`, of a picture of size `source` (width, height).

    Without thumbnails, and without what names videos, maps of depth or light, other packets, and
    the source's pixels, as regions of IPTC may.
    """
    regions = (IPTC_REGIONS,) if _IN_PIXELS.search(xmp) else ()
    return _edited(
        xmp,
        lambda name: name in regions or _is_untrue_of_a_result(name),
        partial(_resized, source=source, size=size),
    )


def _edited(xmp: bytes, goes: Goes, numbers: Numbers) -> bytes:
    try:
        text = xmp.decode()
    except UnicodeDecodeError:
        return xmp
    kept, place = [], 0
    for start, end, replacement in _edits(text, goes, numbers):
        kept += [text[place:start], replacement]
        place = end
    return "".join([*kept, text[place:]]).encode()


def _edits(text: str, goes: Goes, numbers: Numbers) -> Iterator[Edit]:
    """Replacements in order, each with its start and end in the text."""
    spaces: dict[str, str] = dict(_PREFIX.findall(text))

    def full(name: str) -> str:
        prefix, _, local = name.rpartition(":")
        return spaces.get(prefix, prefix) + local

    leaving, start, depth, inside = "", 0, 0, ""
    for tag in _TAG.finditer(text):
        name, step = tag["name"], -1 if tag["closing"] else not tag["empty"]
        if full(name) == MARKED_SIZE:
            inside = "" if tag["closing"] else MARKED_SIZE
        if not leaving and not tag["closing"] and goes(full(name)):
            leaving, start, depth = name, tag.start(), 0
        if leaving:
            depth += step if name == leaving else 0
            if not depth:
                yield start, tag.end(), ""
                leaving = ""
        elif not tag["closing"]:
            for found in _ATTRIBUTE.finditer(text, *tag.span("attributes")):
                if goes(full(found[1])):
                    yield *found.span(), ""
                else:
                    yield from numbers(text, found.start(2) + 1, inside + full(found[1]))
            yield from numbers(text, tag.end(), inside + full(name))
        if tag["empty"] and full(name) == MARKED_SIZE:
            inside = ""


def _is_untrue_of_a_result(name: str) -> bool:
    gone = name.startswith((*PAYLOADS, *IN_SOURCE_PIXELS)) or name == THUMBNAILS
    return gone or VIDEO.match(name) is not None


def _resized(text: str, place: int, name: str, source: Size, size: Size) -> Iterator[Edit]:
    """The number at a place, if it is a length of the image."""
    growing = _IN_PANORAMA.fullmatch(name) or _OF_MARKED_SIZE.fullmatch(name)
    number = _NUMBER.match(text, place)
    if number is None or (growing is None and name not in SIZES):
        return
    axis = SIZES[name] if growing is None else GROWING_AXES[growing[1]]
    grown = round(int(number[1]) * size[axis] / source[axis])
    yield *number.span(1), str(grown if growing else size[axis])


def _no_edits(text: str, place: int, name: str) -> Iterator[Edit]:
    return iter(())
