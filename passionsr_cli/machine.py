"""What this machine and this process are doing."""

from __future__ import annotations

import sys


def process_peak_bytes() -> int:
    """The largest resident size this process has had."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
