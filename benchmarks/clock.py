"""Does a run end when its budget does, whatever else the machine computes?

    python benchmarks/clock.py [--budget 3m] [--quick]

Each row is `coview pretrain scenes --budget 3m` as a process, beside so many processes that keep a
core busy. Its time is that of the process: importing, opening the images (the scenes are drawn and
in the cache), planning, training, evaluation, export and report. In the last row the others come
after a third of the budget and go after two thirds. Exit code 1 where a run ends more than 5 % from
its budget. Takes four budgets and half a minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from coview.core.run_folder import RunFolder
from coview.core.text import duration, parse_duration
from setting import setting

TOLERANCE = 0.05
Load = Callable[[float], int]
"""The number of busy processes at this share of the budget."""
LOADS: dict[str, Load] = {
    "none": lambda share: 0,
    "1": lambda share: 1,
    "4": lambda share: 4,
    "4 in the middle third": lambda share: 4 if 1 / 3 <= share < 2 / 3 else 0,
}
QUICK = ("none", "4 in the middle third")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--quick", action="store_true", help="two rows of 40 s")
    parser.add_argument("--row", choices=LOADS, action="append", help="this row alone")
    given = parser.parse_args()
    budget = 40.0 if given.quick else parse_duration(given.budget)
    print(f"clock: {setting()}\n")
    print("| busy processes beside it | budget | process took | off | steps, first plan | made |"
          " plans | last rate / peak | verdict |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    draw = [sys.executable, "-m", "coview", "pretrain", "scenes", "--epochs", "1", "--dry-run"]
    subprocess.run(draw, stdout=sys.stderr, check=True)
    rows = given.row or (QUICK if given.quick else LOADS)
    late = [name for name in rows if not met(name, budget)]
    print(f"\nAll within {TOLERANCE:.0%}." if not late else f"\nMissed: {'; '.join(late)}.")
    return bool(late)


def met(name: str, budget: float) -> bool:
    """One row; whether its run ended within 5 % of the budget."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder, "run"))
        command = [sys.executable, "-m", "coview", "pretrain", "scenes", "--budget",
                   f"{budget:g}s", "--out", str(run.path), "--quiet"]  # fmt: skip
        seconds = timed(command, LOADS[name], budget)
        description, verdict = run.description, run.verdict or {}
        rows = run.metrics()
    steps = [row for row in rows if row["kind"] == "step"]
    plans = sum(row["kind"] == "plan" for row in rows)
    rates = [row["learning_rate"] for row in steps] or [0.0]
    off = seconds / budget - 1
    print(
        f"| {name} | {duration(budget)} | {seconds:.1f} s | {off:+.1%} "
        f"| {description['durations'][0]['total_steps']:,} | {verdict.get('step', 0):,} | {plans} "
        f"| {rates[-1] / (max(rates) or 1):.3f} | {verdict.get('label')} |",
        flush=True,
    )
    return abs(off) <= TOLERANCE


def timed(command: Sequence[str], load: Load, budget: float) -> float:
    """Seconds until the command has ended, beside the load. A bad verdict is no failure."""
    busy: list[subprocess.Popen[bytes]] = []
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        while process.poll() is None:
            wanted = load((time.perf_counter() - began) / budget)
            while len(busy) < wanted:
                busy.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            while len(busy) > wanted:
                busy.pop().kill()
            time.sleep(0.05)
        seconds = time.perf_counter() - began
    finally:
        for each in (*busy, process):
            each.kill()
            each.wait()
    if process.returncode in (1, 2, 130):
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
