"""The exit code that a run deserves."""

from __future__ import annotations

from coview.core.figures import DIAGNOSES
from coview.runs import Run

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: start again and it goes on


def exit_code(run: Run | None) -> int:
    """0 where a run ended well or was only planned, 75 where it was stopped, else its verdict's."""
    if run is None:
        return 0
    if not run.is_ended:
        return STOPPED
    return DIAGNOSES[str((run.verdict or {})["label"])].exit_code
