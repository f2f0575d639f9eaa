from __future__ import annotations

import errno
import signal
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from passionsr_cli.errors import ImageError, OutputError
from passionsr_cli.imaging.encoding import Layout
from passionsr_cli.imaging.files import (
    check_output,
    find_images,
    picture_of,
    read_picture,
    size_of,
    write_picture,
)
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.arrays import Array

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)


def _black(side: int) -> Array:
    return np.zeros((3, side, side), np.float32)


def _saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    picture = read_picture(_saved(Image.fromarray(RGB), tmp_path / "a.png"))
    assert picture.size == (14, 10)
    assert np.array_equal((picture.rgb * 255).round(), RGB.transpose(2, 0, 1))
    assert picture.alpha is None
    assert not picture.grey


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # A white top-left corner as displayed; each orientation stores it somewhere else.
    upright = np.zeros((10, 14, 3), np.uint8)
    upright[:5, :7] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    picture = read_picture(_saved(image, tmp_path / "a.png", exif=exif))
    assert size_of(tmp_path / "a.png") == picture.size
    assert np.array_equal((picture.rgb * 255).astype(np.uint8), upright.transpose(2, 0, 1))


def test_grey_stays_grey(tmp_path: Path) -> None:
    grey = Image.fromarray(RGB[..., 0])
    picture = read_picture(_saved(grey, tmp_path / "a.png"))
    assert picture.grey
    write_picture(tmp_path / "b.png", picture)
    back = Image.open(tmp_path / "b.png")
    assert back.mode == "L"
    assert np.array_equal(np.array(back), RGB[..., 0])


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 140).astype(np.uint16).reshape(10, 14)
    picture = read_picture(_saved(Image.fromarray(ramp), tmp_path / "a.png"))
    assert np.allclose(picture.rgb[0], ramp / 65535, atol=1e-4)


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(8)
    picture = read_picture(_saved(palette, tmp_path / "a.png", transparency=0))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha[0] == 0, np.array(palette) == 0)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    picture = read_picture(_saved(cmyk, tmp_path / "a.tif"))
    assert np.array_equal((picture.rgb * 255).round(), RGB.transpose(2, 0, 1))
    assert picture.metadata.icc_profile is None


def test_lab_has_no_transparency(tmp_path: Path) -> None:
    from PIL import ImageCms

    spaces = [ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")]
    muted = RGB // 4 + 96
    lab = ImageCms.profileToProfile(Image.fromarray(muted), *spaces, outputMode="LAB")
    picture = read_picture(_saved(lab, tmp_path / "a.tif"))
    assert picture.alpha is None
    assert np.allclose(picture.rgb * 255, muted.transpose(2, 0, 1), atol=4)


def test_alpha_is_kept_aside_and_written_back(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, RGB[..., :1]])
    picture = read_picture(_saved(Image.fromarray(rgba), tmp_path / "a.png"))
    assert picture.alpha is not None
    write_picture(tmp_path / "b.png", picture)
    found = np.array(Image.open(tmp_path / "b.png"))
    assert np.array_equal(found[..., 3], rgba[..., 3])
    # Of pixels that are next to transparent, colours may be others.
    seen = rgba[..., 3] >= 32
    assert np.array_equal(found[seen], rgba[seen])


def test_transparency_is_not_dropped_silently(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.jpg holds no transparency"):
        write_picture(
            tmp_path / "a.jpg",
            Picture(_black(8), np.zeros((1, 8, 8), np.float32)),
        )


def _with_metadata(path: Path) -> tuple[bytes, bytes, bytes]:
    """A file of which every kind of metadata is set: ICC profile, EXIF, XMP."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 1
    exif.get_ifd(0x8769)[0x927C] = b"a note of the maker's"
    block, xmp = exif.tobytes(), b"<x:xmpmeta>words</x:xmpmeta>"
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"pnginfo": text} if path.suffix == ".png" else {"xmp": xmp}
    _saved(Image.fromarray(RGB), path, exif=block, icc_profile=b"profile", **options)
    return b"profile", block.removeprefix(b"Exif\0\0"), xmp


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("result", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_metadata_survives_byte_by_byte(tmp_path: Path, source: str, result: str) -> None:
    profile, exif, xmp = _with_metadata(tmp_path / f"a{source}")
    picture = read_picture(tmp_path / f"a{source}")
    if source == ".avif":
        # libavif keeps orientation apart from EXIF, and Pillow EXIF without it.
        exif = picture.metadata.exif or b""
    write_picture(tmp_path / f"b{result}", picture)
    with Image.open(tmp_path / f"b{result}") as image:
        image.load()
        assert image.info["icc_profile"] == profile
        assert image.info["xmp"] == xmp
        assert image.getexif()[0x010F] == "maker"
        assert image.getexif().get_ifd(0x8769)[0x927C] == b"a note of the maker's"
        if ".avif" not in (source, result) and result != ".tif":
            assert image.info["exif"].removeprefix(b"Exif\0\0") == exif


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp"])
def test_a_stripped_picture_has_none(tmp_path: Path, suffix: str) -> None:
    _with_metadata(tmp_path / "a.png")
    write_picture(tmp_path / f"b{suffix}", read_picture(tmp_path / "a.png").stripped())
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        assert not {"icc_profile", "xmp"} & {key for key, value in image.info.items() if value}
        assert 0x010F not in image.getexif()


def test_heic_is_read_and_written_upright(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pillow_heif")
    plugin.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    shown = np.zeros((64, 96, 3), np.uint8)
    shown[:32, :48] = 255
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(shown, 1)))
    _saved(stored, tmp_path / "a.heic", exif=exif.tobytes(), quality=100)
    picture = read_picture(tmp_path / "a.heic")
    assert picture.size == size_of(tmp_path / "a.heic") == (96, 64)
    assert np.abs(picture.rgb.transpose(1, 2, 0) - shown / 255).mean() < 0.02
    write_picture(tmp_path / "b.heic", picture)
    again = read_picture(tmp_path / "b.heic")
    assert again.metadata.orientation == 1
    assert np.abs(again.rgb - picture.rgb).mean() < 0.02
    assert Image.open(tmp_path / "b.heic").getexif()[0x010F] == "maker"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ten_bits_of_a_camera_are_read_deep(tmp_path: Path, channels: int) -> None:
    plugin = pytest.importorskip("pillow_heif")
    ramp = np.linspace(0, 1023, 96 * 64).reshape(64, 96).astype(np.uint16)
    levels = np.repeat(ramp[..., None], channels, -1).squeeze()
    if channels == 4:
        levels[..., 3] = 1000
    mode = {1: "I;16", 3: "RGB;16", 4: "RGBA;16"}[channels]
    made = plugin.from_bytes(mode, (96, 64), (levels << 6).tobytes())
    made.save(tmp_path / "a.hif", quality=-1, chroma=444, format="HEIF")
    (tmp_path / "a.avif").write_bytes(
        imagecodecs.avif_encode(levels, level=imagecodecs.AVIF.QUALITY.LOSSLESS, bitspersample=10)
    )
    for name in ("a.hif", "a.avif"):
        picture = read_picture(tmp_path / name)
        assert picture.depth == 16
        assert (picture.alpha is not None) == (channels == 4)
        assert picture.rgb.max() == 1
        # More than 8 bits could tell apart.
        assert len(np.unique(picture.rgb)) > 900
        assert np.abs(picture.rgb - ramp / 1023).max() < 2 / 1023
    assert {path.name for path in find_images(tmp_path)} == {"a.hif", "a.avif"}


@pytest.mark.parametrize("compressed", [False, True])
def test_metadata_in_a_pngs_text(tmp_path: Path, compressed: bool) -> None:
    """As ImageMagick writes it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    caption = b"\x1c\x02x\x00\x05hello"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(caption)) + caption
    kinds = {"exif": exif.tobytes(), "iptc": resource, "xmp": b"<x:xmpmeta/>"}
    text = PngInfo()
    for kind, content in kinds.items():
        digits = "\n".join(content.hex()[at : at + 72] for at in range(0, 2 * len(content), 72))
        said = f"\n{kind}\n{len(content):8}\n{digits}\n"
        text.add_text(f"Raw profile type {kind}", said, zip=compressed)
    picture = read_picture(_saved(Image.new("RGB", (14, 10)), tmp_path / "a.png", pnginfo=text))
    assert picture.size == (10, 14)
    assert picture.metadata.exif is not None
    assert b"maker" in picture.metadata.exif
    assert (picture.metadata.iptc, picture.metadata.xmp) == (caption, b"<x:xmpmeta/>")
    damaged = PngInfo()
    damaged.add_text("Raw profile type exif", "\nexif\n 9\nno digits")
    path = _saved(Image.new("RGB", (14, 10)), tmp_path / "b.png", pnginfo=damaged)
    assert read_picture(path).metadata == Metadata()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_go_in_and_out(tmp_path: Path, suffix: str, channels: int) -> None:
    values = RNG.random((channels, 300, 40)) * 0.8 + 0.2
    planes = ((values * 65535).round() / 65535).astype(np.float32)
    alpha = planes[-1:] if channels in (2, 4) else None
    rgb = planes[:3] if channels > 2 else planes[:1].repeat(3, axis=0)
    picture = Picture(rgb, alpha, channels < 3, 16)
    write_picture(tmp_path / f"a{suffix}", picture)
    back = read_picture(tmp_path / f"a{suffix}")
    assert (back.depth, back.grey) == (16, channels < 3)
    np.testing.assert_allclose(back.rgb, rgb, atol=1e-6)
    assert (back.alpha is None) == (alpha is None)
    if back.alpha is not None:
        np.testing.assert_allclose(back.alpha, alpha, atol=1e-6)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(255 - RGB)]
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).save(path, save_all=True, append_images=frames)
    with pytest.raises(ImageError, match=rf"a\{suffix}: an animation of 2 frames"):
        read_picture(path)


def test_a_format_that_cannot_hold_the_picture_is_refused_before_the_work() -> None:
    wide = Layout((70_000, 100), 3, 8, Metadata())
    with pytest.raises(OutputError, match=r"a side of a \.jpg has at most 65535; use \.png"):
        check_output(Path("a.jpg"), wide)
    much = Layout((100, 100), 3, 8, Metadata(exif=bytes(70_000)))
    with pytest.raises(OutputError, match="larger than a JPEG can hold"):
        check_output(Path("a.jpg"), much)
    deep = Layout((100, 100), 3, 16, Metadata())
    check_output(Path("a.jpg"), deep)
    with pytest.raises(OutputError, match=r"\.jpg holds 8 bits"):
        check_output(Path("a.jpg"), deep, keep_depth=True)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp"])
def test_what_the_encoder_has_no_memory_for_is_refused_before_the_work(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passionsr_cli.imaging.encoding.free_bytes", lambda device: 500_000_000)
    large, small = (Layout(size, 3, 8, Metadata()) for size in ((16000, 12000), (2000, 2000)))
    with pytest.raises(
        OutputError, match=rf"as {suffix} takes about .* 0\.5 GB are free; use .png"
    ):
        check_output(Path(f"a{suffix}"), large)
    check_output(Path(f"a{suffix}"), small)
    check_output(Path("a.png"), large)


def test_metadata_that_an_encoder_does_not_take_is_an_error_of_one_line(tmp_path: Path) -> None:
    broken = Metadata(exif=b"MM\0*\xff\xff\xff\xff")
    picture = Picture(_black(16), metadata=broken)
    write_picture(tmp_path / "a.png", picture)
    assert read_picture(tmp_path / "a.png").metadata == broken
    write_picture(tmp_path / "a.tif", picture)
    assert read_picture(tmp_path / "a.tif").metadata.exif is None
    broken = Metadata(exif=b"no EXIF at all")
    with pytest.raises(OutputError, match=r"a\.avif: cannot be encoded .* --strip-metadata"):
        write_picture(tmp_path / "a.avif", Picture(_black(16), metadata=broken))
    assert not list(tmp_path.glob(".*"))


def test_an_animation_of_one_frame_is_an_image(tmp_path: Path) -> None:
    assert read_picture(_saved(Image.fromarray(RGB), tmp_path / "a.gif")).size == (14, 10)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"hello", "not an image file"),
        ("empty.jpg", b"", "not an image file"),
        ("missing.png", None, "no such file"),
        ("cut.tif", b"II*\0aaaa", "its first directory does not lie in it"),
        ("photo.DNG", b"II*\0\x08\0\0\0", "raw file; develop it"),
        ("missing.nef", None, "no such file"),
    ],
)
def test_unreadable_files_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=f"{name}.*{message}"):
        read_picture(path)


def test_sizes_are_those_of_headers_alone(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(ImageError, match=r"a\.png: too large to be opened safely"):
        size_of(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        size_of(tmp_path / "none.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "late.png", exif=exif)
    whole = (tmp_path / "late.png").read_bytes()
    at, end = whole.index(b"eXIf") - 4, whole.index(b"IDAT") - 4
    assert at < end
    late = whole[:at] + whole[end:-12] + whole[at:end] + whole[-12:]
    (tmp_path / "late.png").write_bytes(late)
    assert size_of(tmp_path / "late.png") == read_picture(tmp_path / "late.png").size == (10, 14)
    _saved(Image.fromarray(RGB), tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:60])
    assert size_of(tmp_path / "b.png") == (14, 10)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_truncated_files_are_damaged(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    path = _saved(noise, tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


def test_an_unknown_output_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '\.xyz' files; use one of \.png"):
        write_picture(tmp_path / "a.xyz", Picture(_black(8)))


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def _small_png(depth: int, *chunks: bytes) -> bytes:
    """16×16 pixels of grey whose levels repeat every four, as libpng packs them."""
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, depth, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" + bytes([0b00011011] * (2 * depth))) * 16)
    parts = (header, *chunks, _png_chunk(b"IDAT", rows), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("depth", "level"), [(1, 1), (2, 0), (2, 3), (4, 1), (4, 11), (8, 27)])
def test_one_grey_level_may_be_transparent(tmp_path: Path, depth: int, level: int) -> None:
    content = _small_png(depth, _png_chunk(b"tRNS", struct.pack(">H", level)))
    (tmp_path / "a.png").write_bytes(content)
    expected = imagecodecs.png_decode(content)[..., -1] / 255
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None
    assert np.count_nonzero(alpha == 0) > 0
    assert np.array_equal(alpha[0], expected.astype(np.float32))
    with Image.open(tmp_path / "a.png") as image:
        opened, again = picture_of(image).alpha, picture_of(image).alpha
    assert opened is not None
    assert again is not None
    assert np.array_equal(opened, alpha)
    assert np.array_equal(again, alpha)


def test_long_texts_and_impossible_colours_are_no_damage(tmp_path: Path) -> None:
    text = b"XML:com.adobe.xmp\0" + b"\1\0\0\0" + zlib.compress(b"<x/>" + b" " * 3_000_000)
    content = _small_png(8, _png_chunk(b"cHRM", bytes(32)), _png_chunk(b"iTXt", text))
    (tmp_path / "a.png").write_bytes(content)
    assert read_picture(tmp_path / "a.png").metadata.icc_profile is None


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on files is a Unix matter")
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp", "avif"])
def test_a_file_that_cannot_be_whole_is_none(tmp_path: Path, ending: str) -> None:
    import resource

    noise = np.random.default_rng(0).random((3, 96, 96)).astype(np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_picture(tmp_path / f"a.{ending}", Picture(noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("passionsr_cli.imaging.png.zlib.crc32", lambda *_: fails(b""))
    with pytest.raises(OutputError, match="the disk is full"):
        write_picture(tmp_path / "a.png", Picture(_black(8)))
    assert list(tmp_path.glob("**/*.png")) == []
