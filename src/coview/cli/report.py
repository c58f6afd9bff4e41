"""coview report RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coview.cli.options import argument, parse


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report.html again from its files."""

    run: str = argument("the run's folder")


def main(words: Sequence[str]) -> int:
    options = parse(Report, "report", words)
    from pathlib import Path

    from coview.core.progress import say
    from coview.reports import write_report

    say(f"Report: {write_report(Path(options.run))}")
    return 0
