"""Commands of Coview whose figures a benchmark reads, and how it writes several figures."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from scipy.stats import t


def coview(*words: str) -> float:
    """Run a command, its output on the error stream; the seconds. A bad verdict is no failure."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "coview", *words], stdout=sys.stderr, check=False)
    if done.returncode in (1, 2, 130):
        raise SystemExit(f"coview {' '.join(words)} failed")
    return time.perf_counter() - start


def interval(values: Sequence[float]) -> str:
    """Mean and, of several values, its 95 % interval (Student), in per cent."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f} %"
    half = 100 * statistics.stdev(values) / len(values) ** 0.5 * t.ppf(0.975, len(values) - 1)
    return f"{mean:.1f} ± {half:.1f} %"
