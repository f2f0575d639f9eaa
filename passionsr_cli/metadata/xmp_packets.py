"""XMP packets (ISO 16684-1): what they say of their file, corrected where it stands.

All other bytes stay. Properties are known by their namespaces, whatever prefixes they have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")
_TAG = re.compile(
    r"<(?P<closing>/?)(?P<name>[\w.:-]+)"
    r"(?P<attributes>(?:\s+[\w.:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*(?P<empty>/?)>"
)
_ATTRIBUTE = re.compile(r"\s+([\w.:-]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_PREFIX = re.compile(r"xmlns:([\w.-]+)\s*=\s*[\"']([^\"']*)[\"']")
_NUMBER = re.compile(r"\s*(\d{1,9})\s*")

GOOGLE = "http://ns.google.com/photos/1.0/"
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
PANORAMA = GOOGLE + "panorama/"
# The axis along which a property measures the image, 0 for its width.
SIZES = {
    "http://ns.adobe.com/exif/1.0/PixelXDimension": 0,
    "http://ns.adobe.com/exif/1.0/PixelYDimension": 1,
    "http://ns.adobe.com/tiff/1.0/ImageWidth": 0,
    "http://ns.adobe.com/tiff/1.0/ImageLength": 1,
}
# Lengths and places in a panorama, which grow with its image.
PANORAMA_AXES = {"Width": 0, "Left": 0, "Height": 1, "Top": 1}
_IN_PANORAMA = re.compile(re.escape(PANORAMA) + r"\w*(Width|Left|Height|Top)(Pixels)?")

Size = tuple[int, int]
Edit = tuple[int, int, str]


def orientation(xmp: bytes) -> int | None:
    """The orientation 1 … 8 that a packet names, None where it names none."""
    found = _ORIENTATION.search(xmp)
    return int(found[2]) if found else None


def upright(xmp: bytes) -> bytes:
    """A packet whose picture was turned."""
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def of_result(xmp: bytes, source: Size, size: Size) -> bytes:
    """A packet for a result of `size`, of a picture of size `source` (width, height).

    Without thumbnails, and without what names videos, maps of depth or light, and other packets.
    """
    try:
        text = xmp.decode()
    except UnicodeDecodeError:
        return xmp
    kept, place = [], 0
    for start, end, replacement in _edits(text, source, size):
        kept += [text[place:start], replacement]
        place = end
    return "".join([*kept, text[place:]]).encode()


def _edits(text: str, source: Size, size: Size) -> Iterator[Edit]:
    """Replacements in order, each with its start and end in the text."""
    spaces: dict[str, str] = dict(_PREFIX.findall(text))

    def full(name: str) -> str:
        prefix, _, local = name.rpartition(":")
        return spaces.get(prefix, prefix) + local

    leaving, start, depth = "", 0, 0
    for tag in _TAG.finditer(text):
        name, step = tag["name"], -1 if tag["closing"] else not tag["empty"]
        if not leaving and not tag["closing"] and _goes(full(name)):
            leaving, start, depth = name, tag.start(), 0
        if leaving:
            depth += step if name == leaving else 0
            if not depth:
                yield start, tag.end(), ""
                leaving = ""
        elif not tag["closing"]:
            for found in _ATTRIBUTE.finditer(text, *tag.span("attributes")):
                if _goes(full(found[1])):
                    yield *found.span(), ""
                else:
                    yield from _resized(text, found.start(2) + 1, full(found[1]), source, size)
            yield from _resized(text, tag.end(), full(name), source, size)


def _goes(name: str) -> bool:
    return name.startswith(PAYLOADS) or name == THUMBNAILS or VIDEO.match(name) is not None


def _resized(text: str, place: int, name: str, source: Size, size: Size) -> Iterator[Edit]:
    """The number at a place, if it is a length of the image."""
    panorama = _IN_PANORAMA.fullmatch(name)
    number = _NUMBER.match(text, place)
    if number is None or (panorama is None and name not in SIZES):
        return
    axis = SIZES[name] if panorama is None else PANORAMA_AXES[panorama[1]]
    grown = round(int(number[1]) * size[axis] / source[axis])
    yield *number.span(1), str(grown if panorama else size[axis])
