"""A pretraining run that has collapsed for good is given up, with its verdict."""

from __future__ import annotations

from coview.core.progress import say
from coview.diagnosis.giving_up import REPORTS, given_up, lost_since
from coview.diagnosis.run_checks import diagnose_rows
from coview.diagnosis.state import Diagnosis
from coview.runs.duration import durations_of
from coview.runs.job import Monitor
from coview.runs.run import Run
from coview.training import MetricsLog


class CollapseWatch:
    """Looks at ``run`` after each report; :meth:`reason` is "" until it is lost at two in a row.

    Reports during warm-up do not count, nor those before the run was last extended, so that a user
    can let it go on. All is read from the log: a resumed run is stopped where it would have been.
    ``enabled``: off in processes that are not the main one, and in runs that learn from labels.
    """

    def __init__(self, run: Run, metrics_log: MetricsLog, *, enabled: bool) -> None:
        self.run, self.metrics_log, self.enabled = run, metrics_log, enabled
        self._reason, self._said = "", False
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
            return measured

        return measure_and_look

    def reason(self) -> str:
        """Why the run is given up; "" while it is not."""
        return self._reason

    def diagnosis(self) -> Diagnosis:
        """The verdict of the run that was given up."""
        total_steps, rows = self.run.total_steps, self.metrics_log.rows
        found = diagnose_rows(self.run.description, rows, total_steps=total_steps)
        return given_up(found, total_steps=total_steps)

    def _look(self, step: int) -> None:
        lost = lost_since(
            self.run.description, self.metrics_log.rows, total_steps=self.run.total_steps,
            after=self._after,
        )  # fmt: skip
        if len(lost) == REPORTS:
            self._reason = (
                f"every image has had the same embedding since step {lost[0]:,}, which training on "
                "does not change"
            )
        elif lost and not self._said:
            self._said = True
            text = (
                f"Every image has the same embedding at step {step:,}. If it is so at the next "
                "report, the run ends there."
            )
            self.metrics_log.write("event", step, text=text)
            say(text)
