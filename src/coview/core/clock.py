"""The time of a run: its budget, and how much of it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Now = Callable[[], float]

_command_start: ContextVar[float | None] = ContextVar("_command_start", default=None)


@contextmanager
def command_since(moment: float) -> Iterator[None]:
    """A :class:`Clock` made inside counts from ``moment`` of time.monotonic(), when the command
    was started, so that importing torch is counted."""
    token = _command_start.set(moment)
    try:
        yield
    finally:
        _command_start.reset(token)


class Clock:
    """Seconds that a run has used, those before it was last stopped included.

    budget: seconds in which everything must be done, the opening of the images and the report
    included; None for a run of fixed length. now: the present moment in seconds.

    >>> moments = iter([0.0, 20.0, 30.0])
    >>> clock = Clock(90.0, now=lambda: next(moments))
    >>> clock.used, clock.left
    (20.0, 60.0)
    """

    def __init__(self, budget: float | None = None, *, now: Now | None = None) -> None:
        self.budget, self.now = budget, now or time.monotonic
        began = None if now else _command_start.get()
        self._began = self.now() if began is None else began
        self._before = 0.0

    @property
    def used(self) -> float:
        return self.now() - self._began + self._before

    @property
    def left(self) -> float:
        """Seconds of the budget that are left, below 0 where it is exceeded."""
        return (float("inf") if self.budget is None else self.budget) - self.used

    def go_on_from(self, used: float) -> None:
        """Count the seconds that a run had used when it was stopped as well."""
        self._before = max(self._before, used)
