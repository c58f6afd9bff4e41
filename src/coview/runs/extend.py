"""A run that has ended or was stopped goes on for longer than it was to."""

from __future__ import annotations

import math
import statistics

from coview.core.errors import InvalidValue
from coview.core.run_folder import is_run
from coview.core.values import encode
from coview.reports.next_steps import longer_epochs
from coview.runs.describe import now
from coview.runs.duration import Duration, durations_of
from coview.runs.job import Job
from coview.runs.run import Run

RECENT = 20  # reports


def extend(job: Job, run: Run, *, epochs: float | None, budget: float | None) -> None:
    """Let ``run`` go on to ``epochs`` in all, or for ``budget`` seconds from now.

    ``job`` is its kind. run.json keeps the recipe and every earlier duration; an ended run has not
    ended any more. Raises InvalidValue where the run has that length already.
    """
    every = [run]
    if _has_equal_baseline(job, run) and is_run(run.scratch_path):
        every.append(type(run)(run.scratch_path))
    longer = [(each, _longer(job, each, epochs, budget)) for each in every]
    for each, duration in longer:
        durations = (*durations_of(each.description), duration)
        each.write_description({
            **each.description, "durations": [encode(item) for item in durations],
            "total_steps": durations[-1].total_steps, "epochs": durations[-1].epochs,
        })  # fmt: skip
        each.verdict_path.unlink(missing_ok=True)


def longer_command(run: Run) -> str:
    """What trains a run twice as long, or long enough for a verdict.

    In Python where only a program has the images.
    """
    epochs = longer_epochs(run.description, run.total_steps)
    if run.data.images.source is None:
        return f"coview.resume({str(run.path)!r}, epochs={epochs}, data=...) in Python"
    return f"{run.command('resume')} --epochs {epochs}"


def _has_equal_baseline(job: Job, run: Run) -> bool:
    return bool(run.description.get("baselines")) and job.baseline_is_as_long


def _longer(job: Job, run: Run, epochs: float | None, budget: float | None) -> Duration:
    done = max(run.checkpoint_steps, default=0)
    per_epoch = int(run.description["steps_per_epoch"])
    if epochs is not None:
        if not (math.isfinite(epochs) and epochs > 0):
            raise InvalidValue(f"`epochs` is {epochs:g}; expected a number above 0.")
        total = max(1, round(epochs * per_epoch))
        if total <= done:
            raise InvalidValue(
                f"`epochs` is {epochs:g}, but {run.path} has made {done / per_epoch:g}; give more."
            )
        return Duration(step=done, epochs=epochs, total_steps=total, created=now())
    assert budget is not None
    if _has_equal_baseline(job, run):
        raise InvalidValue(
            f"{run.path} is extended by `epochs`, so that the network from scratch beside it is "
            "trained as long; give them in place of `budget`."
        )
    total = done + max(1, int(budget / _step_seconds(run)))
    return Duration(
        step=done, epochs=round(total / per_epoch, 2), total_steps=total, budget=budget,
        follows_clock=True, created=now(),
    )  # fmt: skip


def _step_seconds(run: Run) -> float:
    """By the last reports of the run, or else as it was planned."""
    rows = run.metrics("step")[-RECENT:]
    speeds = [speed for row in rows if (speed := row.get("images_per_second"))]
    if speeds:
        return float(run.recipe.batch_size / statistics.median(speeds))
    return float(run.description["estimate_seconds"] / run.description["total_steps"])
