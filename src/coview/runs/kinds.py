"""The kinds of runs by their names in run.json."""

from __future__ import annotations

from coview.runs.detecting import DETECTION
from coview.runs.distilling import DISTILLING
from coview.runs.finetuning import FINE_TUNING
from coview.runs.job import Job
from coview.runs.pretraining import PRETRAINING

JOBS: dict[str, Job] = {job.kind: job for job in (PRETRAINING, FINE_TUNING, DISTILLING, DETECTION)}
