"""HEIC files, by pillow-heif, which may not be installed."""

from __future__ import annotations

import functools

BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
HOW_TO_INSTALL = "pip install 'passionsr[heif]'"


@functools.cache
def plugged_in() -> bool:
    """Teach Pillow HEIC; False where the plugin is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
