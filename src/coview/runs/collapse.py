"""A pretraining run that has collapsed for good is given up, with its verdict."""

from __future__ import annotations

from coview.core.progress import say
from coview.core.run_folder import planned_steps
from coview.diagnosis.giving_up import REPORTS, given_up, lost_since
from coview.diagnosis.run_checks import diagnose_rows, health_history
from coview.diagnosis.state import Diagnosis
from coview.runs.duration import durations_of
from coview.runs.job import Monitor
from coview.runs.run import Run
from coview.training import MetricsLog


class CollapseWatch:
    """Looks at ``run`` after each report; :meth:`reason` is "" until it is lost at two in a row.

    Reports during warm-up do not count, nor those before the run was last extended, so that a user
    can let it go on. All is read from the log: a resumed run is stopped where it would have been.
    ``enabled``: off in processes that are not the main one, and in runs that do not pretrain.
    """

    def __init__(self, run: Run, metrics_log: MetricsLog, *, enabled: bool) -> None:
        self.run, self.metrics_log, self.enabled = run, metrics_log, enabled
        self._reason, self._lost = "", list[int]()
        if enabled:
            epochs = run.recipe.schedule.warmup_epochs
            warmup = round(epochs * run.description["steps_per_epoch"])
            self._after = durations_of(run.description)[-1].step + warmup

    def following(self, monitor: Monitor) -> Monitor:
        """``monitor``, and a look at what it has measured."""

        def measure_and_look(step: int, last: bool = False) -> bool:
            measured = monitor(step, last)
            if self.enabled and step and not last:
                self._look(step)
                if self._lost and not self._reason:
                    self._announce()
            return measured

        return measure_and_look

    def restore(self, step: int, *, total_steps: int) -> None:
        """Look at the report of the last step that was done, which was said at that time.

        So a run that was given up and killed before its verdict was written does not train on.
        """
        if self.enabled and 0 < step < total_steps:  # at its last step none is given up
            self._look(step)

    def reason(self) -> str:
        """Why the run is given up; "" while it is not."""
        return self._reason

    def diagnosis(self) -> Diagnosis:
        """The verdict of the run that was given up."""
        description, rows, total_steps = self.run.description, self.metrics_log.rows, self._total()
        found = diagnose_rows(description, rows, total_steps=total_steps)
        return given_up(found, total_steps=total_steps)

    def _look(self, step: int) -> None:
        description, rows = self.run.description, self.metrics_log.rows
        lost = lost_since(description, rows, total_steps=self._total(), after=self._after)
        self._lost = lost if lost[-1:] == [step] else []  # not every epoch ends with a report
        if len(self._lost) == REPORTS:
            self._reason = (
                "all images have had nearly the same embedding since step "
                f"{lost[0]:,} ({self._likeness(step)})"
            )

    def _announce(self) -> None:
        (step,) = self._lost
        text = (
            f"All images have nearly the same embedding at step {step:,} "
            f"({self._likeness(step)}). If it is so at the next report, the run ends there."
        )
        self.metrics_log.write("event", step, text=text)
        say(text)

    def _likeness(self, step: int) -> str:
        cosine = health_history(self.metrics_log.rows)[step].mean_negative_similarity
        return f"two of them have a mean cosine of {cosine:.2f}"

    def _total(self) -> int:
        """The steps of the whole run, by the lines in memory: the disk may fail meanwhile."""
        return planned_steps(self.run.description, self.metrics_log.rows)
