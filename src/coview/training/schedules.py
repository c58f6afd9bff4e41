"""Learning rates as an array over all steps; a schedule has no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coview.core.errors import InvalidValue, UnknownName
from coview.training.timeline import Rates, Timeline

RESTART_WARMUP = 10  # one in this number of steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """A linear warm-up, then "cosine" down to ``final`` of the peak, or "constant".

    Range: warmup_epochs >= 0, fractions allowed; final in [0, 1], with "cosine" only.
    Raises InvalidValue or UnknownName.

    >>> ScheduleSpec(warmup_epochs=1).rates(1.0, total_steps=4, steps_per_epoch=2).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 10.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "constant"):
            raise UnknownName("schedule", str(self.kind), ("constant", "cosine"))
        if not 0 <= self.warmup_epochs < math.inf:
            raise InvalidValue(
                f"`warmup_epochs` is {self.warmup_epochs}; expected a number from 0 up."
            )
        if not 0 <= self.final <= 1 or (self.kind == "constant" and self.final != 0):
            raise InvalidValue(
                f"`final` of the {self.kind} schedule is {self.final}; expected a share of the "
                "peak from 0 to 1, and 0 for a constant schedule."
            )

    def rates(self, peak: float, *, total_steps: int, steps_per_epoch: int) -> Rates:
        """The learning rate of every step, float64 [total_steps]; ``peak`` > 0.

        Raises InvalidValue where the warm-up is not shorter than the run.
        """
        return self.rates_along(Timeline.of(total_steps), peak, steps_per_epoch=steps_per_epoch)

    def rates_along(self, timeline: Timeline, peak: float, *, steps_per_epoch: int) -> Rates:
        """The same along a timeline. A schedule that has restarted warms up in a tenth at most.

        Raises InvalidValue where the warm-up is not shorter than the run.
        """
        length, warmup_steps = timeline.length, round(self.warmup_epochs * steps_per_epoch)
        if timeline.start > 0:
            warmup_steps = min(warmup_steps, length // RESTART_WARMUP)
        if warmup_steps >= length:
            raise InvalidValue(
                f"`warmup_epochs` is {self.warmup_epochs:g} ({warmup_steps} steps), but the run "
                f"has {length} steps. Lower it or raise `epochs`."
            )
        final = 1.0 if self.kind == "constant" else self.final
        return warmup_cosine(peak, length, warmup_steps, final=final, steps=timeline.positions())


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule(ScheduleSpec):
    """A linear warm-up, then the peak times ``factor`` for every share of the run in ``drops`` that
    has passed: the schedules of detection. Range: shares above 0 and below 1, growing.

    >>> StepSchedule(drops=(0.5, 0.75), warmup_epochs=0).rates(
    ...     1.0, total_steps=4, steps_per_epoch=1).round(3).tolist()
    [1.0, 1.0, 0.1, 0.01]
    """

    kind: Literal["cosine", "constant"] = "constant"
    drops: tuple[float, ...] = (2 / 3, 8 / 9)
    factor: float = 0.1

    def __post_init__(self) -> None:
        ScheduleSpec.__post_init__(self)
        if self.kind != "constant":
            raise InvalidValue(
                "A StepSchedule is of the kind constant between its `schedule.drops`."
            )
        if list(self.drops) != sorted(set(self.drops)) or not all(0 < d < 1 for d in self.drops):
            raise InvalidValue(
                f"`schedule.drops` is {self.drops}; expected growing shares of the run, between 0 "
                "and 1."
            )
        if not 0 < self.factor <= 1:
            raise InvalidValue(
                f"`schedule.factor` is {self.factor:g}; expected above 0 and at most 1."
            )

    def rates_along(self, timeline: Timeline, peak: float, *, steps_per_epoch: int) -> Rates:
        """The learning rates along a timeline; see :class:`ScheduleSpec`."""
        rates = ScheduleSpec.rates_along(self, timeline, peak, steps_per_epoch=steps_per_epoch)
        shares = timeline.positions() / timeline.length
        passed = sum((shares >= drop).astype(np.int64) for drop in self.drops)
        dropped: Rates = rates * self.factor**passed
        return dropped


def warmup_cosine(
    peak: float, total: int, warmup: int, *, final: float = 0.0, steps: Rates | None = None
) -> Rates:
    """rate(s) = peak s / warmup for s < warmup; then, with t = (s - warmup) / (total - warmup),

        rate(s) = peak (final + (1 - final) (1 + cos(pi t)) / 2)

    for the ``steps`` s, by default 0 .. total - 1. So step 0 of a warm-up has rate 0, and the last
    step's t is one step short of 1. Source: ``model_util`` of SimCLR's released code.

    >>> warmup_cosine(1.0, 4, 2).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    steps = np.arange(total, dtype=np.float64) if steps is None else steps
    progress = (steps - warmup) / (total - warmup)
    cosine = final + (1 - final) * 0.5 * (1 + np.cos(np.pi * progress))
    rates: Rates = peak * np.where(steps < warmup, steps / max(warmup, 1), cosine)
    return rates


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in an epoch, without the last short one. Raises InvalidValue for none.

    >>> steps_per_epoch(1000, 256)
    3
    """
    if not 0 < batch_size <= images:
        raise InvalidValue(
            f"`batch_size` is {batch_size} but there are {images} images; expected 1 to {images}."
        )
    return images // batch_size
