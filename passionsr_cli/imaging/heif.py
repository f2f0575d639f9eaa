"""HEIC files, by pillow-heif, which may not be installed."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
HOW_TO_INSTALL = "pip install pillow-heif"


@functools.cache
def plugged_in() -> bool:
    """Teach Pillow HEIC; False where the plugin is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def deep_levels(path: Path) -> npt.NDArray[np.uint16]:
    """A file of more than 8 bits per channel as integers (H, W) or (H, W, C), upright."""
    from pillow_heif import open_heif

    return np.asarray(open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False), np.uint16)
