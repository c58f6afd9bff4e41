"""A few cases of each campaign of `make crash`, so that the campaigns themselves go on working."""

import os
import subprocess
import sys
from pathlib import Path

CRASH = Path(__file__).parents[2] / "benchmarks" / "crash.py"
# Each takes seconds for a case; the others go on by the same functions.
CAMPAIGNS = ("phases", "faults", "checkpoints")


def test_campaigns_hold_on_a_few_cases():
    done = subprocess.run(
        [sys.executable, str(CRASH), *CAMPAIGNS, "--share", "0.0001", "--seed", "7"],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(CAMPAIGNS)
    assert all(int(row.split(" | ")[2]) > 0 for row in rows)
