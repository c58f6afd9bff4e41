"""What is wrong with a run or with images, and what to do."""

from __future__ import annotations

from dataclasses import replace

from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import Kind, place_of
from coview.core.progress import say
from coview.data.sources import NAMES, is_path
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
    if is_path(subject) and place_of(subject, NAMES).kind is Kind.RUN:
        return check_run(local_path(subject))
    # With the labels of folders that look like classes: copies under other labels are problems.
    spec = replace(DataSpec.of(subject, options, needs_labels=None), allow_broken=True)
    store = spec.open(subject)
    for note in store.notes:
        say(note, detail=True)
    read = len(store) + len(store.quarantine)
    sampled = options.limit is not None and read >= options.limit
    return check_data(store, sampled=sampled, kept_at=spec.short_side)
