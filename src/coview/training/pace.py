"""How many steps fit into what is left of a budget, measured while the run goes on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from coview.core.clock import Clock

# Of the seconds left, those that have just passed are taken for the speed of the steps to come: far
# from the end a short disturbance changes little, near it the present speed counts.
WINDOW = 0.5
# The total is planned again when steps were measured for this share of the budget, or when this
# share of them is done.
ENOUGH, ENOUGH_STEPS = 0.01, 0.25
# The total is planned again where the steps to come change by more than this share,
TOLERANCE = 0.02
# and a change beyond this one is said.
NOTABLE = 0.25
# After the last step one thread works where in a step several do, so that a busy machine slows it
# less: by this power of what it does to the steps, within these bounds.
CLOSING_POWER, SLOWEST, FASTEST = 0.7, 4.0, 0.5


class Pace:
    """The number of steps of a training whose run must end when ``clock``'s budget does.

    closing: seconds from the last step to the end of the run, measured when it began; report: those
    of them that the last report takes, which are measured again at every report. most_steps: never
    more. trainings: this one and the later ones that share the budget, in lengths of this one.

    >>> now = [0.0]
    >>> pace = Pace(Clock(110.0, now=lambda: now[0]), closing=10.0)
    >>> pace.begin(0)
    >>> now[0] = 20.0
    >>> pace.total_steps(20, planned=150)  # a second each; 80 are left
    100
    """

    def __init__(
        self, clock: Clock, *, closing: float = 0.0, report: float = 0.0,
        most_steps: int | None = None, trainings: float = 1,
    ) -> None:  # fmt: skip
        self.clock, self.report, self.rest = clock, report, closing - report
        self.most_steps, self.trainings = most_steps, trainings
        self.begin(0)

    def begin(self, step: int) -> None:
        """``step`` steps are done when the loop begins."""
        self._first, self._began, self._beside = step, self.clock.now(), 0.0
        self._marks: deque[tuple[int, float]] = deque([(step, 0.0)])
        self._first_speed = self._report_speed = self._speed = 0.0
        self._said = 0

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Inside, the loop reports or saves, which every step pays a part of."""
        started = self.clock.now()
        try:
            yield
        finally:
            self._beside += self.clock.now() - started

    def report_took(self, seconds: float) -> None:
        """A report like that after the last step took so long. The first one is a poor estimate,
        because libraries are loaded in it."""
        self.report, self._report_speed = seconds, self._speed

    def total_steps(self, done: int, *, planned: int) -> int:
        """The steps of the whole training after ``done`` steps; ``planned`` is what it was."""
        if self.clock.budget is None:
            return planned
        passed = self.clock.now() - self._began - self._beside
        left = self.clock.left - self.closing_seconds
        if left <= 0:
            return done
        self._marks.append((done, passed))
        share = (done - self._first) / max(1, planned - self._first)
        if passed < ENOUGH * self.clock.budget and share < ENOUGH_STEPS:
            return planned
        self._measure(passed, WINDOW * left)
        fit = left / (self._speed + self._beside / (done - self._first))
        total = max(done, int((done + fit) / self.trainings))
        total = total if self.most_steps is None else min(total, max(done, self.most_steps))
        return total if abs(total - planned) > TOLERANCE * (planned - done) else planned

    @property
    def closing_seconds(self) -> float:
        """Seconds from the last step to the end of the run, at the present speed of the steps."""
        return self.rest * self._slower(self._first_speed) + self.report_seconds

    @property
    def report_seconds(self) -> float:
        """Those of them that the last report takes."""
        return self.report * self._slower(self._report_speed or self._first_speed)

    def _slower(self, speed: float) -> float:
        """By what closing work takes longer now than at ``speed``, in seconds per step."""
        power = math.pow(self._speed / speed, CLOSING_POWER) if speed else 1.0
        return min(SLOWEST, max(FASTEST, power))

    def note(self, total: int, *, planned: int) -> str:
        """A sentence where the total differs much from the last that was said; else ""."""
        before = self._said or planned
        if abs(total - before) < NOTABLE * before:
            return ""
        self._said = total
        speed = "slower" if total < before else "faster"
        return (
            f"The steps are {speed} than planned: {total:,} in place of {before:,} fit into the "
            "budget."
        )

    def _measure(self, passed: float, window: float) -> None:
        """Seconds per step over the last ``window`` seconds; the first reported steps, in which
        kernels are compiled, are left out as soon as there are others."""
        while len(self._marks) > 2 and passed - self._marks[1][1] >= window:
            self._marks.popleft()
        if len(self._marks) > 2 and self._marks[0] == (self._first, 0.0):
            self._marks.popleft()
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        self._speed = (ended - began) / (last - first)
        self._first_speed = self._first_speed or self._speed
