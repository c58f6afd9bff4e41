"""The page docs/benchmarks/results/reliability.md: a line for each campaign."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from coview.core.machine import cores
from coview.core.version import VERSION

PAGE = Path(__file__).parents[1] / "docs/benchmarks/results/reliability.md"
HEAD = """# Reliability

One line for each campaign of `make crash` and `make fuzz`: the number of cases, those that did not
hold, the target of a night, and the seed that repeats them. The next run of a campaign replaces its
line. Machine: cores, Python and torch.

| campaign | what holds | cases | failed | target | seed | seconds | date, version, machine |
|---|---|---|---|---|---|---|---|
"""


@dataclass
class Campaign:
    """The result of one campaign: ``failures`` has a sentence for each case that did not hold."""

    name: str
    holds: str
    seed: int
    target: int
    cases: int = 0
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def case(self, fault: str = "") -> None:
        """Count a case, which failed where there is a ``fault``."""
        self.cases += 1
        if fault:
            self.failures.append(fault)
            print(f"  {self.name}: {fault}", file=sys.stderr, flush=True)

    def row(self) -> str:
        machine = f"{cores()} cores, Python {platform.python_version()}, torch {torch.__version__}"
        cells = (
            self.name, self.holds, f"{self.cases:,}", f"{len(self.failures):,}",
            f"{self.target:,}", str(self.seed), f"{time.monotonic() - self.started:.0f}",
            f"{datetime.now(UTC):%Y-%m-%d}, {VERSION}, {machine}",
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def record(campaign: Campaign) -> None:
    """Write the line of ``campaign`` in place of its last one."""
    text = PAGE.read_text() if PAGE.exists() else HEAD
    lines = [line for line in text.splitlines() if not line.startswith(f"| {campaign.name} |")]
    temporary = PAGE.with_name(f".{PAGE.name}.{os.getpid()}.tmp")
    temporary.write_text("\n".join([*lines, campaign.row()]) + "\n")
    temporary.replace(PAGE)
