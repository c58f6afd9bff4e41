"""Progress that a person can read: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coview.core.machine import duration

Advance = Callable[..., None]


def say(text: str = "") -> None:
    """One line to the user, on standard output, at once."""
    print(text, flush=True)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """A bar for long work; yields ``advance(count=1, note="")``.

    On a terminal it shows rate and remaining time. Elsewhere it prints a plain line at most every
    ten seconds and one at the end of work that took longer than two seconds.
    """
    if sys.stdout.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        with _lines(label, total, unit) as advance:
            yield advance


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    start = time.monotonic()
    done = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=count, rate=f"{rate:,.0f} {unit}/s", note=note)

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
