"""What is wrong with a run or with images, and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coview.core.options import takes
from coview.core.run_folder import is_run
from coview.data.spec import DataSpec
from coview.diagnosis.data_checks import DataReport, check_data
from coview.diagnosis.run_checks import RunReport, check_run
from coview.options import DoctorOptions


@takes(DoctorOptions)
def doctor(options: DoctorOptions) -> DataReport | RunReport:
    """The report on a run, or on images; ``render_text`` and ``exit_code`` are what the command
    prints and returns.

    >>> doctor("scenes", limit=200).exit_code
    0
    >>> doctor("runs/scenes").label
    'too early'
    """
    subject = options.subject
    if isinstance(subject, (str, Path)) and is_run(subject):
        return check_run(subject)
    spec = replace(DataSpec.of(subject, options), allow_broken=True)
    store = spec.open(subject)
    read = len(store) + len(store.quarantine)
    sampled = options.limit is not None and read >= options.limit
    return check_data(store, sampled=sampled, kept_at=spec.short_side)
