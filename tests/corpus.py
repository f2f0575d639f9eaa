"""Image files as people have them: small ones of every kind, and what a viewer would show of them.

Written by libraries other than the reader uses, or by hand; what lossy formats show is what another
decoder makes of them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

HEIGHT, WIDTH = 32, 48
Pixels = npt.NDArray[Any]
LEVEL_8, LEVEL_16 = 0.51 / 255, 0.51 / 65535


@dataclass(frozen=True)
class Specimen:
    """A file's name and bytes, and what it shows: RGB (H, W, 3) in [0, 1], opacity, and bits."""

    name: str
    content: bytes
    shown: npt.NDArray[np.float64]
    alpha: npt.NDArray[np.float64] | None = None
    depth: int = 8
    tolerance: float = LEVEL_8


def _photograph(depth: int = 8) -> Pixels:
    """Smooth, as lossy formats like it, with a corner that says which way is up."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    planes = [across / 1.5, down, (across / 1.5 + down) / 2]
    values = np.stack(planes, -1) * 0.8 + 0.1
    values[:6, :8] = (1, 0, 0)
    levels: Pixels = np.rint(values.clip(0, 1) * (2**depth - 1)).astype(f"u{depth // 8}")
    return levels


RGB8, RGB16 = _photograph(8), _photograph(16)
# Nowhere near transparent: colours below are then those of the file.
ALPHA8 = np.rint(np.linspace(160, 255, HEIGHT * WIDTH)).reshape(HEIGHT, WIDTH, 1).astype(np.uint8)


def _shown(pixels: Pixels, white: int | None = None) -> npt.NDArray[np.float64]:
    scaled = pixels / (white or np.iinfo(pixels.dtype).max)
    return scaled if scaled.ndim == 3 and scaled.shape[2] >= 3 else _grey(scaled)


def _grey(values: Pixels) -> npt.NDArray[np.float64]:
    return np.repeat(values.reshape(HEIGHT, WIDTH, -1)[..., :1], 3, 2)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    with io.BytesIO() as out:
        image.save(out, kind, **options)
        return out.getvalue()


def _tiff(pixels: Pixels, **options: Any) -> bytes:
    with io.BytesIO() as out:
        tifffile.imwrite(out, pixels, **options)
        return out.getvalue()


def specimens() -> Iterator[Specimen]:
    """All of them."""
    yield from _pngs()
    yield from _jpegs()
    yield from _turned()
    yield from _other_lossy()
    yield from _simple()
    yield from _tiffs()
    yield from _rare_tiffs()
    yield from _palettes_in_tiffs()
    yield from _brightness_and_differences()
    yield from _described()


def _pngs() -> Iterator[Specimen]:
    for depth, rgb in ((8, RGB8), (16, RGB16)):
        alpha = ALPHA8.astype(rgb.dtype) * (1 if depth == 8 else 257)
        near = LEVEL_8 if depth == 8 else LEVEL_16
        opacity = _shown(alpha)[..., 0]
        for kind, pixels, opaque in (
            ("grey", rgb[..., 1], None),
            ("rgb", rgb, None),
            ("grey-alpha", np.dstack([rgb[..., 1:2], alpha]), opacity),
            ("rgba", np.dstack([rgb, alpha]), opacity),
        ):
            content = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
            shown = _shown(pixels[..., :3] if kind == "rgba" else pixels)
            if kind == "grey-alpha":
                shown = _shown(pixels[..., 0])
            yield Specimen(f"{kind}-{depth}.png", content, shown, opaque, depth, near)
    for colour, bits in ((0, 1), (0, 2), (0, 4), (3, 1), (3, 2), (3, 4), (3, 8)):
        for interlaced in (False, True):
            yield _small_png(colour, bits, interlaced)


def _small_png(colour: int, bits: int, interlaced: bool) -> Specimen:
    """A PNG of less than a byte for each pixel, or with a palette, by hand."""
    levels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 7 % 2**bits
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes = [*steps, (1, 0, 2, 1)] if interlaced else [(0, 0, 1, 1)]
    rows = b""
    for top, left, down, right in passes:
        for row in levels[top::down, left::right]:
            wide = (row[:, None] >> np.arange(bits)[::-1]) & 1
            rows += b"\0" + np.packbits(wide.astype(np.uint8)).tobytes()
    palette = np.arange(3 * 2**bits).reshape(-1, 3) * 5 % 256
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if colour == 3:
        chunks.insert(1, (b"PLTE", palette.astype(np.uint8).tobytes()))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    shown = palette[levels] / 255 if colour == 3 else _shown(levels, 2**bits - 1)
    name = f"{'palette' if colour else 'grey'}-{bits}{'-interlaced' * interlaced}.png"
    return Specimen(name, content, shown)


def _jpegs() -> Iterator[Specimen]:
    image = Image.fromarray(RGB8)
    near = 2.5 / 255
    kinds: dict[str, dict[str, Any]] = {
        "444": {"subsampling": 0},
        "422": {"subsampling": 1},
        "420": {"subsampling": 2},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_rows": 1},
        "optimized": {"optimize": True},
    }
    for name, options in kinds.items():
        content = _saved(image, "JPEG", quality=95, **options)
        shown = _shown(imagecodecs.jpeg8_decode(content))
        yield Specimen(f"{name}.jpg", content, shown, tolerance=near)
        yield Specimen(f"{name}-endless.jpg", content[:-2], shown, tolerance=near)
    grey = _saved(image.convert("L"), "JPEG", quality=95)
    yield Specimen("grey.jpeg", grey, _grey(imagecodecs.jpeg8_decode(grey) / 255), tolerance=near)
    inks = np.dstack([255 - RGB8, np.full((HEIGHT, WIDTH), 40, np.uint8)])
    content = _saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=98)
    light = 1 - inks / 255
    shown = light[..., :3] * light[..., 3:]
    yield Specimen("inks.jpg", content, shown, tolerance=0.05)


def _turned() -> Iterator[Specimen]:
    """Stored so that each orientation shows the photograph upright; by definition, case by case."""
    stored = {
        1: RGB8,
        2: RGB8[:, ::-1],
        3: RGB8[::-1, ::-1],
        4: RGB8[::-1],
        5: RGB8.transpose(1, 0, 2),
        6: np.rot90(RGB8, 1),
        7: RGB8[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB8, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(pixels))
        content = _saved(image, "PNG", exif=exif)
        yield Specimen(f"turned-{orientation}.png", content, _shown(RGB8))
        content = _saved(image, "WEBP", exif=exif, lossless=True)
        yield Specimen(f"turned-{orientation}.webp", content, _shown(RGB8))
        tags = [(274, 3, 1, orientation, True)]
        for depth, rgb in ((8, pixels), (16, pixels.astype(np.uint16) * 257)):
            content = _tiff(np.ascontiguousarray(rgb), photometric="rgb", extratags=tags)
            name = f"turned-{orientation}-{depth}.tif"
            yield Specimen(name, content, _shown(RGB8), depth=depth)


def _other_lossy() -> Iterator[Specimen]:
    image, clear = Image.fromarray(RGB8), Image.fromarray(np.dstack([RGB8, ALPHA8]))
    opacity = ALPHA8[..., 0] / 255
    yield Specimen("lossless.webp", _saved(image, "WEBP", lossless=True), _shown(RGB8))
    content = _saved(clear, "WEBP", lossless=True)
    yield Specimen("rgba.webp", content, _shown(RGB8), opacity)
    content = _saved(image, "WEBP", quality=95)
    shown = _shown(imagecodecs.webp_decode(content)[..., :3])
    yield Specimen("lossy.webp", content, shown)
    for name, options in {"444": {"subsampling": "4:4:4"}, "420": {}}.items():
        content = _saved(image, "AVIF", quality=90, **options)
        shown = _shown(imagecodecs.avif_decode(content)[..., :3])
        yield Specimen(f"{name}.avif", content, shown, tolerance=2.5 / 255)
    content = _saved(clear, "AVIF", quality=90, subsampling="4:4:4")
    shown = _shown(imagecodecs.avif_decode(content)[..., :3])
    yield Specimen("rgba.avif", content, shown, opacity, tolerance=2.5 / 255)


def _simple() -> Iterator[Specimen]:
    image = Image.fromarray(RGB8)
    palette = image.quantize(64)
    shown = _shown(np.asarray(palette.convert("RGB")))
    for kind in ("GIF", "BMP"):
        yield Specimen(f"palette.{kind.lower()}", _saved(palette, kind), shown)
    yield Specimen("rgb.bmp", _saved(image, "BMP"), _shown(RGB8))
    black = RGB8[..., 1] > 127
    yield Specimen("black.bmp", _saved(Image.fromarray(black), "BMP"), _grey(black * 1.0))
    for white, near in ((255, LEVEL_8), (1000, LEVEL_16), (65535, LEVEL_16)):
        kind, depth = ("u1", 8) if white < 256 else (">u2", 16)
        pixels = np.rint(_shown(RGB16) * white).astype(kind)
        size = b"%d\n%d # a comment\n%d\n" % (WIDTH, HEIGHT, white)
        for magic, chosen in ((b"P6\n# by hand\n", pixels), (b"P5\n", pixels[..., 0])):
            name = f"white-{white}.{'ppm' if chosen.ndim == 3 else 'pgm'}"
            content = magic + size + chosen.tobytes()
            yield Specimen(name, content, _shown(chosen, white), None, depth, near)
            digits = b"\n".join(b" ".join(b"%d" % level for level in row.ravel()) for row in chosen)
            content = (b"P3\n" if chosen.ndim == 3 else b"P2\n") + size + digits
            shown = _shown(chosen, white)
            yield Specimen(f"digits-{name}", content, shown, None, depth, near)
    # Of these 1 is black.
    size, bits = b"\n%d %d\n" % (WIDTH, HEIGHT), (~black).astype(np.uint8)
    digits = b"\n".join(b"".join(b"%d" % bit for bit in row) for row in bits)
    for name, content in {
        "digits.pbm": b"P1" + size + digits,
        "bits.pbm": b"P4" + size + np.packbits(bits, axis=1).tobytes(),
    }.items():
        yield Specimen(name, content, _grey(black * 1.0))


def _tiffs() -> Iterator[Specimen]:
    """The kinds of layouts, of 8 and 16 bits."""
    layouts: dict[str, dict[str, Any]] = {
        "strips": {"rowsperstrip": 8},
        "tiles": {"tile": (16, 16)},
        "planes": {"planarconfig": "separate"},
        "big-endian": {"byteorder": ">"},
        "big": {"bigtiff": True},
        "big-endian-big": {"bigtiff": True, "byteorder": ">"},
        "predictor": {"compression": "zlib", "predictor": True},
        **{
            name: {"compression": name}
            for name in ("zlib", "lzw", "packbits", "zstd", "lzma", "jpeg2000", "jpegxl", "lerc")
        },
    }
    layouts["jpegxl"]["compressionargs"] = {"lossless": True}
    for name, options in layouts.items():
        for depth, rgb in ((8, RGB8), (16, RGB16)):
            pixels = rgb.transpose(2, 0, 1) if name == "planes" else rgb
            near = LEVEL_8 if depth == 8 else LEVEL_16
            content = _tiff(np.ascontiguousarray(pixels), photometric="rgb", **options)
            yield Specimen(f"{name}-{depth}.tif", content, _shown(rgb), None, depth, near)
    content = _tiff(RGB8[..., 1] > 127, photometric="minisblack", bigtiff=True, byteorder=">")
    yield Specimen("black-big-endian-big.tif", content, _grey((RGB8[..., 1] > 127) * 1.0))
    lossless = {"compression": "webp", "compressionargs": {"lossless": True, "level": 100}}
    yield Specimen("webp-8.tif", _tiff(RGB8, photometric="rgb", **lossless), _shown(RGB8))
    for kind in ("jpeg", "tiff_lzw", "group4"):
        image = Image.fromarray(RGB8).convert("1" if kind == "group4" else "RGB")
        content = _saved(image, "TIFF", compression=kind)
        near = 0.1 if kind == "jpeg" else LEVEL_8
        yield Specimen(
            f"{kind}.tif",
            content,
            _shown(np.asarray(image) * 1.0, 1 if kind == "group4" else 255),
            tolerance=near,
        )


def _rare_tiffs() -> Iterator[Specimen]:
    """What the colours of a TIFF may mean."""
    for rgb in (RGB8, RGB16):
        depth, white = 8 * rgb.itemsize, np.iinfo(rgb.dtype).max
        near = LEVEL_8 if depth == 8 else LEVEL_16
        shown, alpha = _shown(rgb), ALPHA8.astype(rgb.dtype) * (white // 255)
        opacity = alpha[..., 0] / white
        grey = np.ascontiguousarray(rgb[..., 1])
        for name, kind, seen in (
            ("grey", "minisblack", _shown(grey)),
            ("white", "miniswhite", 1 - _shown(grey)),
        ):
            content = _tiff(grey, photometric=kind)
            yield Specimen(f"{name}-{depth}.tif", content, seen, None, depth, near)
            clear = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
            content = _tiff(np.dstack([grey, alpha]), photometric=kind, **clear)
            yield Specimen(f"{name}-alpha-{depth}.tif", content, seen, opacity, depth, near)
        content = _tiff(np.dstack([rgb, alpha]), photometric="rgb", extrasamples=["unassalpha"])
        yield Specimen(f"rgba-{depth}.tif", content, shown, opacity, depth, near)
        over = np.rint(rgb * opacity[..., None]).astype(rgb.dtype)
        content = _tiff(np.dstack([over, alpha]), photometric="rgb", extrasamples=["assocalpha"])
        yield Specimen(f"over-{depth}.tif", content, shown, opacity, depth, 2 / 160 * near * 255)
        yield from _inks(rgb, alpha)
        for name in ("cielab", "icclab"):
            pixels, seen = _lab(depth, name == "icclab")
            content = _tiff(pixels, photometric=name)
            yield Specimen(f"{name}-{depth}.tif", content, seen, None, depth, 0.6 / 255)
        with io.BytesIO() as out:
            with tifffile.TiffWriter(out) as file:
                file.write(255 - RGB8[::4, ::4], photometric="rgb", subfiletype=1)
                file.write(rgb, photometric="rgb")
            content = out.getvalue()
        yield Specimen(f"thumbnail-first-{depth}.tif", content, shown, None, depth, near)


def _inks(rgb: Pixels, alpha: Pixels) -> Iterator[Specimen]:
    """Without a profile, ink is light that is taken away."""
    depth, white = 8 * rgb.itemsize, np.iinfo(rgb.dtype).max
    inks = np.dstack([white - rgb, np.full((HEIGHT, WIDTH), white // 5, rgb.dtype)])
    light = 1 - inks / white
    shown = light[..., :3] * light[..., 3:]
    content = _tiff(inks, photometric="separated")
    yield Specimen(f"inks-{depth}.tif", content, shown, None, depth, 1 / 255)
    five = np.dstack([inks, alpha])
    content = _tiff(five, photometric="separated", extrasamples=["unassalpha"])
    yield Specimen(f"inks-alpha-{depth}.tif", content, shown, alpha[..., 0] / white, depth, 1 / 255)


def _palettes_in_tiffs() -> Iterator[Specimen]:
    """Of 8 and 16 bits, and with 8 bits where there should be 16, as some programs write them."""
    for depth, narrow in ((8, False), (8, True), (16, False)):
        count = 2**depth
        levels = np.arange(3 * count).reshape(3, count) * 5003 % 65536 >> 8 * narrow
        indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 37 % count
        shown = levels.T[indices] / (255 if narrow else 65535)
        kind = {"photometric": "palette", "colormap": levels.astype(np.uint16)}
        for name, options in _rare_layouts().items():
            content = _tiff(indices.astype(f"u{depth // 8}"), **kind, **options)
            near = LEVEL_16 if depth == 16 else 1 / 255
            name = f"palette-{depth}{'-narrow' * narrow}{name}.tif"
            yield Specimen(name, content, shown, None, depth, near)


def _rare_layouts() -> dict[str, dict[str, Any]]:
    return {
        "": {},
        "-big-endian-big": {"bigtiff": True, "byteorder": ">"},
        "-zstd-tiles": {"compression": "zstd", "tile": (16, 16)},
    }


def _brightness_and_differences() -> Iterator[Specimen]:
    """YCbCr by the formulas of TIFF 6, section 21, and 12 bits of JPEG."""
    for rgb in (RGB8, RGB16):
        depth, white = 8 * rgb.itemsize, np.iinfo(rgb.dtype).max
        middle = (white + 1) / 2
        y = rgb @ np.array([0.299, 0.587, 0.114])
        differences = [(rgb[..., 2] - y) / 1.772, (rgb[..., 0] - y) / 1.402]
        planes = [y, *(plane + middle for plane in differences)]
        exact = np.stack(planes, -1)
        # Of limited range, as of television, with the limits said.
        limits = [white * share // 255 for share in (16, 235, 128, 240, 128, 240)]
        narrow = (limits[3] - limits[2]) / (middle - 1)
        room = np.array([(limits[1] - limits[0]) / white, narrow, narrow])
        offset = np.array([limits[0], *[limits[2] - middle * narrow] * 2])
        pairs = [number for limit in limits for number in (limit, 1)]
        tag = [(532, 5, 6, tuple(pairs), True)]
        for name, options in {
            **_rare_layouts(),
            "-zlib": {"compression": "zlib"},
            "-planes": {"planarconfig": "separate"},
            "-limited": {"extratags": tag},
            "-limited-zlib": {"compression": "zlib", "extratags": tag},
        }.items():
            values = exact * room + offset if "limited" in name else exact
            pixels = np.rint(values).clip(0, white).astype(rgb.dtype)
            pixels = pixels.transpose(2, 0, 1) if name == "-planes" else pixels
            content = _tiff(np.ascontiguousarray(pixels), photometric="ycbcr", **options)
            near = (2 if depth == 8 else 2 / 257) / 255
            name = f"ycbcr{name}-{depth}.tif"
            yield Specimen(name, content, _shown(rgb), None, depth, near)
    options = {"compression": "jpeg", "subsampling": (1, 1), "bitspersample": 12}
    for name, pixels in (("ycbcr", RGB16 >> 4), ("grey", RGB16[..., 1] >> 4)):
        kind = "rgb" if name == "ycbcr" else "minisblack"
        content = _tiff(pixels, photometric=kind, compressionargs={"level": 100}, **options)
        shown = _shown(pixels, 4095)
        yield Specimen(f"{name}-12-jpeg.tif", content, shown, None, 16, 1 / 255)


def _described() -> Iterator[Specimen]:
    """With all the metadata that each format holds: profile, EXIF, XMP, IPTC, resolution."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B] = 1, "maker", 300.0, 300.0
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = WIDTH, HEIGHT
    exif.get_ifd(0x8769)[0x927C] = bytes(100)
    exif.get_ifd(0x8825)[2] = (48.0, 6.0, 0.0)
    xmp = b'<x xmlns:e="http://ns.adobe.com/exif/1.0/" e:PixelXDimension="48"><e:A>1</e:A></x>'
    caption = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02x\0\x05hello"
    segment = struct.pack(">HH", 0xFFED, len(caption) + 2) + caption
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    more = {"exif": exif, "icc_profile": profile}
    image = Image.fromarray(RGB8)
    content = _saved(image, "PNG", pnginfo=text, dpi=(300, 300), **more)
    yield Specimen("described.png", content, _shown(RGB8))
    content = _saved(image, "WEBP", lossless=True, xmp=xmp, **more)
    yield Specimen("described.webp", content, _shown(RGB8))
    content = _saved(image, "TIFF", tiffinfo=_tags(exif, xmp), dpi=(300, 300), icc_profile=profile)
    yield Specimen("described.tif", content, _shown(RGB8))
    content = _saved(image, "JPEG", quality=95, xmp=xmp, dpi=(300, 300), extra=segment, **more)
    shown = _shown(imagecodecs.jpeg8_decode(content))
    yield Specimen("described.jpg", content, shown, tolerance=2.5 / 255)


def _tags(exif: Image.Exif, xmp: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """EXIF, XMP and IPTC as tags of a TIFF."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x010F], tags[700], tags[33723] = exif[0x010F], xmp, b"\x1c\x02x\0\x05hello"
    for directory in (0x8769, 0x8825):
        tags[directory] = dict(exif.get_ifd(directory))
    return tags


# Of XYZ under D50 to linear sRGB, white adapted by Bradford's matrix: ICC's sRGB, inverted.
TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
D50 = (0.9642, 1.0, 0.8249)


def _lab(depth: int, icc: bool) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """Colours well within sRGB as Lab, encoded, and what they are by CIE's formulas."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    lightness, a, b = 90 + down * 3, across // 2 - 12, down - 16
    unit = 1 if depth == 8 else 256
    if icc:
        values = np.stack([lightness, a + 128, b + 128], -1) * unit
    else:
        grown = lightness * (1 if depth == 8 else 257)
        values = np.stack([grown, a * unit, b * unit], -1) & (2**depth - 1)
    middle = (lightness / 2.55 + 16) / 116
    roots = np.stack([middle + a / 500, middle, middle - b / 200], -1)
    xyz = np.where(roots > 6 / 29, roots**3, (roots - 16 / 116) * 3 * (6 / 29) ** 2) * D50
    light = (xyz @ TO_SRGB.T).clip(0, 1)
    shown = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, light * 12.92)
    return values.astype(f"u{depth // 8}"), shown
