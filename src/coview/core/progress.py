"""Progress that a person can read: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from coview.core.text import duration

Advance = Callable[..., None]

_shown = ContextVar("_shown", default=False)
"""Whether a display is on. Work inside other work (kNN inside training) shows none of its own."""


_spelling: ContextVar[Callable[[str], str]] = ContextVar("_spelling", default=str)
"""How fields in backticks are written: as they are, or as options of the command line."""


@contextmanager
def spell_notes(spelling: Callable[[str], str]) -> Iterator[None]:
    """Print every line of :func:`say` as ``spelling`` gives it."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


def say(text: str = "") -> None:
    """One line to the user, on standard output, at once."""
    print(_spelling.get()(text), flush=True)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """A bar for long work; yields ``advance(count=1, note="")``.

    On a terminal it shows rate and remaining time, and the note on a line below. Elsewhere it
    prints a plain line at most every ten seconds and one at the end of work that took longer than
    two seconds. Inside another ``progress`` it shows nothing.
    """
    if _shown.get():
        yield lambda count=1, note="": None
        return
    token = _shown.set(True)
    try:
        with (_bar if sys.stdout.isatty() else _lines)(label, total, unit) as advance:
            yield advance
    finally:
        _shown.reset(token)


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress as bars
    from rich.console import RenderableType
    from rich.text import Text

    class Noted(bars.Progress):
        note = ""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            if self.note:
                yield Text(self.note, style="dim")

    start = time.monotonic()
    done = 0
    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=20),
        bars.MofNCompleteColumn(), bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )  # fmt: skip
    with Noted(*columns) as bar:
        task = bar.add_task(label, total=total, rate="")

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.note = note
            bar.update(task, advance=count, rate=f"{rate:,.0f} {unit}/s")

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0

    def line(note: str) -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        left = f"{duration((total - done) / rate)} left" if 0 < done < total else ""
        parts = (f"{done:,}/{total:,} {unit}", f"{rate:,.0f} {unit}/s", left, note)
        say(f"{label}: " + ", ".join(part for part in parts if part))

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last > 10:
            last = time.monotonic()
            line(note)

    yield advance
    if time.monotonic() - start > 2:
        line("")
