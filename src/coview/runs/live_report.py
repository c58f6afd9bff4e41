"""The report of a run that is going: written again and again, so that a browser follows it."""

from __future__ import annotations

import time
from typing import Any

from coview.core.errors import CoviewError
from coview.core.progress import say
from coview.reports import write_report
from coview.runs.job import Monitor
from coview.runs.run import Run

SECONDS = 15.0
"""Between two writings, at least; a run that reports more seldom writes more seldom."""
SHARE = 0.01
"""Of the time of the run that writing may take, at most."""


class LiveReport:
    """Writes report.html of ``run`` after its reports: at once after the first, then now and then.

    ``enabled``: off in processes that are not the main one. A report that cannot be written is
    said once and stops nothing.
    """

    def __init__(self, run: Run, *, enabled: bool = True) -> None:
        self.run, self.enabled = run, enabled
        self._next = 0.0

    def following(self, monitor: Monitor) -> Monitor:
        """``monitor``, with the report written after it."""

        def measure_and_write(step: int, last: bool = False) -> bool:
            measured = monitor(step, last)
            if not last:  # the end writes it with the verdict
                self.write()
            return measured

        return measure_and_write

    def write(self, row: Any = None) -> None:
        """Write the report if it is time; ``row``: a line of metrics.jsonl, which is read there."""
        began = time.monotonic()
        if not self.enabled or began < self._next:
            return
        try:
            write_report(self.run.path, running=True)
        except (CoviewError, OSError) as error:
            self.enabled = False
            say(f"The report is not written before the end of the run. {error}", detail=True)
        took = time.monotonic() - began
        self._next = began + max(SECONDS, took / SHARE)
