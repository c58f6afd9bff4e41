"""Where a figure was measured: what has to stand beside it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from coview.core.machine import cores, cpu_name, memory_bytes
from coview.training.precision import computes_in_bf16

PEERS = ("torchvision", "numba", "lightly", "kornia")


def setting() -> str:
    """One line: processor, cores, memory, bf16, versions, commit, date and load."""
    fast = computes_in_bf16(torch.device("cpu"))
    memory = memory_bytes() / 2**30
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{cpu_name()}, {cores()} cores, {memory:.0f} GiB, "
        f"{'bf16 in hardware' if fast else 'no bf16 in hardware'}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {_versions()}; "
        f"commit {commit()}; {datetime.now(UTC):%Y-%m-%d}; load before the run {load}"
    )


def commit() -> str:
    """The short hash of the checkout, with a + where it has been changed since.

    COVIEW_COMMIT says it of a copy without the folder .git.
    """
    if told := os.environ.get("COVIEW_COMMIT"):
        return told
    git = ["git", "-C", str(Path(__file__).parent)]
    head = _said([*git, "rev-parse", "--short", "HEAD"])
    changed = _said([*git, "status", "--porcelain", "--untracked-files=no"])
    return (head or "unknown") + "+" * bool(changed)


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return ""
    return done.stdout.strip()


def _versions() -> str:
    found = []
    for name in PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)
