"""How far a study is while its runs go on: lines, and on a terminal tables that change."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from coview.core.progress import output_stream, say, shows_bars
from coview.core.run_folder import RunFolder, is_run, planned_steps
from coview.core.text import duration, plural
from coview.studies.cell import Cell

LINE_SECONDS = 30.0


class StudyLines:
    """A line for each run that has ended, and now and then how far the others are; on a terminal
    a table of those that run and, below it, the first table of the study as it is so far."""

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count, self.done = root, count, 0
        self.began = self.last = time.monotonic()
        self._live: Any = None
        self._figures: Any = None

    def __enter__(self) -> StudyLines:
        if shows_bars():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=output_stream()), transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, cell: Cell, content: Mapping[str, Any]) -> None:
        """A line for a run; ``content``: the study.json with its figures."""
        self.done += 1
        text = figures_of(cell.folder(self.root).name, content) or _verdict(cell, self.root)
        say(f"[{self.done} of {self.count}] {cell.name}: {text}")
        tables = content.get("tables")
        if self._live is not None and tables:
            self._figures = _table(tables[0]["columns"], tables[0]["rows"])

    def progress(self, running: Collection[Cell]) -> None:
        """How far ``running`` are; by lines at most every half a minute."""
        if self._live is not None:
            from rich.console import Group

            states = [(cell.name, _step(cell, self.root)) for cell in running]
            table = _table(("run", "state"), states)
            table.caption = f"{self.done} of {self.count} runs have ended{self._left()}"
            self._live.update(Group(table, *([] if self._figures is None else [self._figures])))
        elif time.monotonic() - self.last > LINE_SECONDS and running:
            self.last = time.monotonic()
            each = (f"{cell.name} {_step(cell, self.root)}" for cell in running)
            say(f"Running: {'; '.join(each)}{self._left()}", detail=True)

    def _left(self) -> str:
        if not self.done:
            return ""
        passed = time.monotonic() - self.began
        return f"; about {duration(passed / self.done * (self.count - self.done))} left"


def figures_of(folder: str, content: Mapping[str, Any]) -> str:
    """The figures of the run in ``folder``, with the means so far of their arms; "" without any.

    Those of "measures" of ``content`` alone, where it has them: rows of a sweep have
    its values, too.

    >>> rows = [{"arm": "a", "seed": 0, "folder": "x", "linear": 61.5},
    ...         {"arm": "a", "seed": 1, "folder": "y", "linear": 60.5}]
    >>> figures_of("y", {"rows": rows})
    'linear 60.5 (mean of 2 runs 61.0)'
    """
    parts = []
    measures = content.get("measures")
    own = [row for row in content.get("rows", ()) if row.get("folder") == folder]
    for row in own:
        arm = f"{row['arm']}: " if len(own) > 1 else ""
        alike = [each for each in content["rows"] if _kind(each) == _kind(row)]
        for name, value in row.items():
            if not isinstance(value, float) or (measures is not None and name not in measures):
                continue
            known = [each[name] for each in alike if isinstance(each.get(name), float)]
            mean = f" (mean of {plural(len(known), 'run')} {statistics.fmean(known):.1f})"
            parts.append(f"{arm}{name} {value:.1f}{mean if len(known) > 1 else ''}")
    return "; ".join(parts)


def _kind(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["arm"], row.get("labels")


def _table(columns: Collection[str], rows: Collection[Collection[str]]) -> Any:
    from rich.table import Table

    table = Table()
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table


def _verdict(cell: Cell, root: Path) -> str:
    return str((cell.run(root).verdict or {}).get("sentence", "ended."))


def _step(cell: Cell, root: Path) -> str:
    """How far a run is, from its files."""
    if not is_run(cell.folder(root)):
        return "is beginning"
    if cell.is_trained(root):
        return "is judged"
    run = RunFolder(cell.folder(root))
    rows = run.metrics()
    total = planned_steps(run.description, rows)
    return f"at step {rows[-1]['step'] if rows else 0:,} of {total:,}"
