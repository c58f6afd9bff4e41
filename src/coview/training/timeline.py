"""Where each step of a run lies on its schedule, whose length may be planned again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Rates = npt.NDArray[np.float64]
"""The learning rate of every step, float64 [total_steps]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A schedule of ``length`` steps that is passed through in the steps ``start`` .. ``total``.

    Step s stands at position(s) of the schedule:

        position(s) = position + (s - step) (length - position) / (total - step)

    where ``position`` was that of ``step``, at which the total was last planned. So whatever is
    planned, the position reaches ``length`` with the last step, without a jump. A run that is never
    planned again has position(s) = s exactly. These five numbers are all that the steps to come
    depend on.

    >>> plan = Timeline.of(100).replan(40, total=60)
    >>> plan.position_of(40), plan.position_of(50), plan.position_of(60)
    (40.0, 70.0, 100.0)
    """

    total: int
    length: int
    start: int = 0
    step: int = 0
    position: float = 0.0

    @classmethod
    def of(cls, total: int) -> Timeline:
        """A run of ``total`` steps, each a step of the schedule."""
        return cls(total=total, length=total)

    def position_of(self, step: int) -> float:
        return self.position + (step - self.step) * self._pace

    def positions(self) -> Rates:
        """Those of the steps 0 .. total - 1, of which the steps before ``step`` are over."""
        return self.position + (np.arange(self.total, dtype=np.float64) - self.step) * self._pace

    def replan(self, step: int, *, total: int) -> Timeline:
        """From ``step`` on the rest of the schedule is passed through in ``total`` - step steps."""
        return replace(self, total=total, step=step, position=self.position_of(step))

    def restart(self, step: int, *, total: int) -> Timeline:
        """A new schedule from its beginning in the steps ``step`` .. ``total`` - 1."""
        return Timeline(total=total, length=total - step, start=step, step=step)

    @property
    def _pace(self) -> float:
        """Positions in a step; 1 where nothing was planned again."""
        return (self.length - self.position) / max(1, self.total - self.step)


class Schedule:
    """The learning rate and the position of every step along a timeline.

    ``rates_of`` gives the rates of a timeline.

    >>> schedule = Schedule(lambda line: 1 - line.positions() / line.length, Timeline.of(4))
    >>> before = schedule.rate(3)
    >>> schedule.replan(2, total=6)
    >>> before, [schedule.rate(step) for step in range(2, 6)]
    (0.25, [0.5, 0.375, 0.25, 0.125])
    """

    def __init__(self, rates_of: Callable[[Timeline], Rates], timeline: Timeline) -> None:
        self._rates_of, self.timeline = rates_of, timeline
        self.rates = rates_of(timeline)

    @classmethod
    def fixed(cls, rates: npt.ArrayLike) -> Schedule:
        """The learning rate of every step, of a run whose length stays."""
        values = np.asarray(rates, dtype=np.float64)
        return cls(lambda _: values, Timeline.of(len(values)))

    @property
    def total_steps(self) -> int:
        return self.timeline.total

    def rate(self, step: int) -> float:
        return float(self.rates[step])

    def position(self, step: int) -> float:
        return self.timeline.position_of(step)

    def replan(self, step: int, *, total: int) -> None:
        self.timeline = self.timeline.replan(step, total=total)
        self.rates = self._rates_of(self.timeline)
