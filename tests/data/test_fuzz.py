"""A small share of `make fuzz`: damaged and hostile files, each in a process with limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_damaged_and_hostile_files_do_no_harm(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--count", "8", "--seed", "7"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "COVIEW_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| 8 | 0 |") == 6
