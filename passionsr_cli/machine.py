"""What this machine and this process are doing."""

from __future__ import annotations

import sys
from pathlib import Path


def process_peak_bytes() -> int:
    """The largest resident size this process has had."""
    if sys.platform == "linux":
        # getrusage counts what the process that started this one used when it did so.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
