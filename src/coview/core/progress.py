"""What is printed: lines to the user, and the progress of long work, a rich bar on a terminal.

The output of a command is ordinary, quiet (no details, no progress), or on the standard error,
where the standard output is for a machine. Every line is also a line of the run's log.txt.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO, cast

from coview.core.line_log import log_line, stamp
from coview.core.streams import SafeStream
from coview.core.text import duration, printable

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[..., None]

LINE_SECONDS, RECENT_SECONDS = 10.0, 60.0
"""Between the plain lines of long work, and over which its speed is taken."""

UNBROKEN, REDIRECTED = 10_000, 100
"""Letters in a line of a table that is no terminal's: nothing is broken for its width; of tables of
figures, which people read, so many."""

SPEEDS = ("images", "views")
"""Of which a speed is told."""

_shown = ContextVar("_shown", default=False)
"""Whether a display is on. Work inside other work (kNN inside training) shows none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How lines are printed. ``spelling`` writes the fields in backticks: as they are, or as
    options of the command line. ``muted``: not at all (a process that is not rank 0). ``inner``:
    without advice on a run, which is one of several that a command makes."""

    spelling: Callable[[str], str] = str
    quiet: bool = False
    on_stderr: bool = False
    muted: bool = False
    inner: bool = False


_output: ContextVar[Output] = ContextVar("_output", default=Output())  # noqa: B039 - it is frozen


@contextmanager
def output(**settings: object) -> Iterator[None]:
    """Print with these settings of :class:`Output` in the body; the others stay."""
    token = _output.set(replace(_output.get(), **settings))  # type: ignore[arg-type]
    try:
        yield
    finally:
        _output.reset(token)


def output_stream() -> TextIO:
    """Where lines for a person go: standard output, or standard error. Writing never fails."""
    stream = sys.stderr if _output.get().on_stderr else sys.stdout
    return cast(TextIO, SafeStream.over(stream))


def table_console(redirected: int = UNBROKEN) -> Console:
    """What tables are printed on: as wide as the terminal. A file or another program gets lines of
    ``redirected`` letters, by default each row in one line, unless $COLUMNS says how wide they are.
    Names in brackets are names."""
    from rich.console import Console

    stream = output_stream()
    bounded = stream.isatty() or "COLUMNS" in os.environ
    width = None if bounded else redirected
    return Console(file=stream, width=width, markup=False, emoji=False)


def prints_details() -> bool:
    """Whether tables and the lines that are details are printed: not in quiet output."""
    settings = _output.get()
    return not (settings.quiet or settings.muted)


def shows_bars() -> bool:
    """Whether long work may draw: on a terminal, unless the output is quiet."""
    settings = _output.get()
    return output_stream().isatty() and not (settings.quiet or settings.muted)


def say(text: str = "", *, detail: bool = False, advice: bool = False) -> None:
    """One line to the user, at once; ``detail``: left out of quiet output. ``advice``: what to do
    with a run, left out where it is an inner one.

    Beside long work it has the time in front, unless a terminal shows a bar. Control characters,
    as names of files may hold them, are spelled out. Output that fails is no error.
    """
    settings = _output.get()
    text = printable(settings.spelling(text))
    log_line(text)
    if settings.muted or (settings.quiet and detail) or (settings.inner and advice):
        return
    timed = _shown.get() and not output_stream().isatty()
    print(f"{stamp()} {text}" if timed else text, file=output_stream(), flush=True)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """A bar for long work; yields ``advance(count=1, note="", left=None)``.

    ``left``: of work whose total may change, what is still to be done.

    On a terminal it shows rate and remaining time, and the note on a line below. Elsewhere, and in
    the log, it prints a plain line at most every ten seconds and one at the end of work that took
    longer than two seconds. Inside another ``progress`` it shows nothing.
    """
    if _shown.get():
        yield lambda count=1, note="", left=None: None
        return
    token = _shown.set(True)
    meter = _Meter(label, total, unit)
    try:
        with _bar(meter) if shows_bars() else _lines(meter) as advance:
            yield advance
    finally:
        _shown.reset(token)


@contextmanager
def say_when_slow(text: str, seconds: float = 2.0) -> Iterator[None]:
    """Say ``text`` once the body has taken so long: of work that is mostly done already."""
    timer = threading.Timer(seconds, copy_context().run, (say, text), {"detail": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def count_aloud(label: str, unit: str) -> Callable[[], None]:
    """A function to call for each thing of unknown many; a line at most every ten seconds."""
    meter = _Meter(label, 0, unit)

    def count() -> None:
        if meter.advance(1, "", None):
            say(f"{label}: {meter.done:,} {unit} so far.", detail=True)

    return count


class _Meter:
    """How far long work is, and the plain line that says so. ``printed``: of how much the last
    line was, -1 before the first."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.start = self.last = time.monotonic()
        self.done, self.printed, self.note = 0, -1, ""
        self._marks = deque([(self.start, 0)])

    def advance(self, count: int, note: str, left: int | None) -> bool:
        """Count; returns whether a plain line is due."""
        self.done, self.note = self.done + count, note
        self.total = self.total if left is None else self.done + left
        due = time.monotonic() - self.last > LINE_SECONDS
        if due:
            self.last, self.printed = time.monotonic(), self.done
            self._marks.append((self.last, self.done))
            while self._marks[1][0] < self.last - RECENT_SECONDS:
                self._marks.popleft()
        return due

    @property
    def rate(self) -> float:
        """Per second, lately: the speed of a busy machine changes."""
        since, done = self._marks[0]
        return (self.done - done) / max(time.monotonic() - since, 1e-9)

    def speed(self) -> str:
        """Images per second; "" for other things, which differ in their work."""
        return f"{self.rate:,.0f} {self.unit}/s" if self.unit in SPEEDS else ""

    def line(self) -> str:
        rate, left = self.rate, self.total - self.done
        parts = (
            f"{self.done:,}/{self.total:,} {self.unit}", self.speed(),
            f"{duration(left / rate)} left" if self.done and left > 0 else "", self.note,
        )  # fmt: skip
        return f"{self.label}: " + ", ".join(part for part in parts if part)


@contextmanager
def _bar(meter: _Meter) -> Iterator[Advance]:
    from rich import progress as bars
    from rich.console import Console, RenderableType
    from rich.text import Text

    class Noted(bars.Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            if meter.note:
                yield Text(meter.note, style="dim")

    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(bar_width=20),
        bars.MofNCompleteColumn(), bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )  # fmt: skip
    with Noted(*columns, console=Console(file=output_stream())) as bar:
        task = bar.add_task(meter.label, total=meter.total, rate="")

        def advance(count: int = 1, note: str = "", left: int | None = None) -> None:
            if meter.advance(count, note, left):
                log_line(meter.line())
            bar.update(task, advance=count, total=meter.total, rate=meter.speed())

        yield advance


@contextmanager
def _lines(meter: _Meter) -> Iterator[Advance]:
    def advance(count: int = 1, note: str = "", left: int | None = None) -> None:
        if meter.advance(count, note, left):
            say(meter.line(), detail=True)

    yield advance
    if time.monotonic() - meter.start > 2 and meter.printed != meter.done:
        meter.note = ""
        say(meter.line(), detail=True)
