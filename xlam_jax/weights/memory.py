"""The host memory that a conversion takes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class PeakMemory:
    """Highest resident set of this process since `start()`, in bytes above the resident set at the start.

    Linux keeps the high-water mark and lets a process reset its own. Where it cannot be reset the mark since
    the process began is used, which can only be too high.
    """

    def start(self) -> PeakMemory:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        return self

    def bytes(self) -> int:
        return max(0, _status("VmHWM") - self._before)


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux: the high-water mark alone is known
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
