"""What this machine is: the facts that stand beside every figure and decide the defaults."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """RAM of the machine, or of the container around this process; 8 GiB where nothing says."""
    physical = 8 << 30
    with contextlib.suppress(AttributeError, ValueError, OSError):
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(ValueError, OSError):
        return min(physical, int(_CONTAINER_LIMIT.read_text()))
    return physical


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def duration(seconds: float) -> str:
    """Seconds as a person says them: '45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def parse_duration(text: str) -> float:
    """'90s', '30m', '2h' or '1d' in seconds. Raises InvalidValue for anything else."""
    from coview.core.errors import InvalidValue

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        seconds = float(text[:-1]) * units[text[-1:].lower()]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidValue(f"{text!r} is not a duration: write for example 90s, 30m or 2h.")
    return seconds
