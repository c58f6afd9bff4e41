"""coview demo"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import option, parse


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A complete first run on built-in images: learn, judge, report. About 3 minutes on 2 cores."""

    out: Path = option("the run's folder", Path("runs/demo"))
    seed: int = option("of everything", 0)


def main(words: Sequence[str]) -> int:
    options = parse(Demo, "demo", words)
    from coview.cli.exit_codes import exit_code
    from coview.cli.tables import evaluation_table
    from coview.evaluation import read_results
    from coview.runs import demo

    finished = demo(out=options.out, seed=options.seed)
    if not finished.is_stopped:
        evaluation_table(read_results(finished.path / "evaluation"))
    return exit_code(finished)
