"""How long a run trains: as it was asked for at first, and whenever the run was extended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coview.core.clock import Clock
from coview.core.errors import CoviewError, DamagedFile
from coview.core.progress import say
from coview.core.text import duration
from coview.core.values import decode_one, encode
from coview.training import MetricsLog, Pace, Schedule, Timeline

EXIT_SECONDS = 1.0  # of the process, after everything is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """What was asked for when ``step`` steps were done.

    total_steps: of the whole run, as planned then. budget: seconds from then on, None without one.
    follows_clock: the steps are planned again so that the run ends when the budget does, but never
    more than ``most_steps`` in all.
    """

    step: int = 0
    epochs: float
    total_steps: int
    budget: float | None = None
    follows_clock: bool = False
    most_steps: int | None = None
    created: str = ""


def durations_of(description: Mapping[str, Any]) -> tuple[Duration, ...]:
    """All durations of a run, the present one last. Raises DamagedFile."""
    if description.get("durations"):
        try:
            return tuple(decode_one(item, Duration) for item in description["durations"])
        except (CoviewError, TypeError) as error:
            raise DamagedFile(
                f"The durations in run.json were damaged or edited: {error}."
            ) from error
    total = int(description["total_steps"])
    return (Duration(epochs=float(description.get("epochs", 0)), total_steps=total),)


def timeline_of(durations: Sequence[Duration], step: int, meta: Mapping[str, Any]) -> Timeline:
    """The timeline of a run after ``step`` steps; ``meta`` is that of the checkpoint.

    A run that was extended after that checkpoint passes through the rest of its schedule in the
    steps that are left, or, where the schedule has ended, begins it again (a warm restart:
    Loshchilov and Hutter 2017).

    >>> first = Duration(epochs=1, total_steps=10)
    >>> longer = Duration(step=10, epochs=2, total_steps=20)
    >>> timeline_of([first], 4, {}), timeline_of([first, longer], 10, {})  # doctest: +ELLIPSIS
    (Timeline(total=10, length=10, ...), Timeline(total=20, length=10, start=10, ...))
    """
    total = durations[-1].total_steps
    if step == 0:
        return Timeline.of(total)
    before = Timeline.of(durations[0].total_steps)
    if "timeline" in meta:
        before = decode_one(meta["timeline"], Timeline)
    if meta.get("duration", 0) == len(durations) - 1:
        return before
    if step >= before.total:
        return before.restart(step, total=total)
    return before.replan(step, total=total)


class Course:
    """The schedule of a run from its last checkpoint on, and its pace where it follows the clock.

    start: the steps done; meta: of the checkpoint, {} where there is none. trainings: those that
    share the budget, in lengths of this one.
    """

    def __init__(
        self, description: Mapping[str, Any], start: int, meta: Mapping[str, Any], clock: Clock, *,
        trainings: float,
    ) -> None:  # fmt: skip
        self.durations = durations_of(description)
        self.timeline = timeline_of(self.durations, start, meta)
        self.clock, now = clock, self.durations[-1]
        clock.budget = now.budget
        self._is_extended = meta.get("duration", 0) != len(self.durations) - 1
        if "seconds_used" in meta and not self._is_extended:
            clock.go_on_from(float(meta["seconds_used"]))
        self.pace = (
            Pace(clock, closing=float(meta.get("closing_seconds", 0.0)),
                 report=float(meta.get("report_seconds", 0.0)),
                 most_steps=now.most_steps, trainings=trainings)
            if now.follows_clock else None
        )  # fmt: skip

    def time_closing(self, report: Callable[[], object], rest: Callable[[], object]) -> None:
        """Report, and rehearse the ``rest`` of what comes after the last step of a budget."""
        began = self.clock.used
        report()
        if self.pace is None:
            return
        reported = self.clock.used
        rest()
        self.pace.report = reported - began
        self.pace.rest = self.clock.used - reported + EXIT_SECONDS

    def note_extension(self, step: int, metrics_log: MetricsLog) -> None:
        """Say how the run goes on where it was extended after its last checkpoint, and write it
        down."""
        if not self._is_extended:
            return
        now = self.durations[-1]
        length = (
            f"{duration(now.budget)} more"
            if now.budget is not None
            else f"{now.epochs:g} epochs, {now.total_steps:,} steps"
        )
        how = (
            "The learning rate begins its schedule again (a warm restart)"
            if self.timeline.start == step > 0
            else "The rest of the learning rate's schedule is spread over it"
        )
        shorter = now.budget is None and now.total_steps < self.durations[-2].total_steps
        change = "Shortened" if shorter else "Extended"
        text = f"{change} after step {step:,} to {length}. {how}."
        metrics_log.write("plan", step, total_steps=now.total_steps, text=text)
        say(text)

    @property
    def planned_steps(self) -> int:
        """The steps of the whole run, as the last duration was planned."""
        return self.durations[-1].total_steps

    def meta(self, schedule: Schedule) -> dict[str, Any]:
        """What a checkpoint says of it: all that the steps to come depend on."""
        return {
            "timeline": encode(schedule.timeline), "duration": len(self.durations) - 1,
            "seconds_used": self.clock.used,
            "closing_seconds": 0.0 if self.pace is None else self.pace.closing_seconds,
            "report_seconds": 0.0 if self.pace is None else self.pace.report_seconds,
        }  # fmt: skip
