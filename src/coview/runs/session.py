"""A run from one start to its next stop: to its end, or to where it is interrupted."""

from __future__ import annotations

import copy
import math
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from coview import training
from coview.core.errors import DamagedFile, InvalidValue, RunError, StorageError
from coview.core.files import exists
from coview.core.progress import say
from coview.core.ranks import Ranks
from coview.core.values import decode_one, encode
from coview.methods import Passes
from coview.methods.learner import NetworkTask
from coview.recipes import build_task, precision_of
from coview.recipes.batches import make_loader
from coview.runs.collapse import CollapseWatch
from coview.runs.data import Images
from coview.runs.describe import write_quarantine
from coview.runs.duration import Course
from coview.runs.finish import leave, say_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.live_report import LiveReport
from coview.runs.run import Run
from coview.training.loggers import Loggers, RunInfo, flatten

REPORTS = 300


def train_run(
    job: Job, run: Run, images: Images, session: Session, parts: Parts | None = None
) -> Run:
    """Train ``run`` from its last checkpoint, or from the start; returns the run.

    Ctrl-C and SIGTERM save and leave. At the end come the export, the verdict and the report. Of
    several processes all call this; the main one alone writes. ``parts``: of images that are split
    already.
    Raises RunError where the disk refuses what has to be saved.
    """
    try:
        return _train_run(
            job, run, images, session, parts or job.split(run.data, images, run.recipe.seed)
        )
    except StorageError as error:
        raise RunError(f"{error} Then go on with: {run.command('resume')}") from error
    except KeyboardInterrupt:  # before the first step, or after the last
        say(f"Go on with: {run.command('resume')}")
        raise


def _train_run(job: Job, run: Run, images: Images, session: Session, parts: Parts) -> Run:
    recipe, ranks = run.recipe, session.ranks
    if parts.fingerprint != run.description["data"]["parts"]:
        raise RunError(
            f"{run.path} began on other training images: the file of `labels` has changed. Bring "
            "it back, or start a new run."
        )
    epochs = run.description.get("keep_every")
    keep_every = None if epochs is None else epochs * run.description["steps_per_epoch"]
    checkpoints = training.Checkpoints(run.checkpoints_path, keep_every)
    if ranks.is_main:
        checkpoints.sweep()  # a run that was killed in its last save makes no other one
    learner, initial, precision, optimizer, start, meta = _network_of(
        job, run, checkpoints, session
    )
    course = Course(run.description, start, meta, session.clock, trainings=job.trainings(run))
    learner.total_steps = course.timeline.length
    training.assert_replicas_equal(learner, ranks)
    if start == 0 and exists(run.metrics_path):
        say("There is no checkpoint yet, so the run begins anew.", detail=True)
    loggers = _open_loggers(run, session)
    metrics_log = training.MetricsLog(
        run.metrics_path if ranks.is_main else None, chance_level=run.description["chance_level"],
        every=max(1, math.ceil(course.planned_steps / REPORTS)), step=start,
        record=meta.get("record", ""), loggers=loggers,
    )  # fmt: skip
    course.note_extension(start, metrics_log)
    monitor = job.monitor(learner, initial, recipe, parts, metrics_log)
    live = LiveReport(run, enabled=ranks.is_main)
    watch = CollapseWatch(run, metrics_log, enabled=ranks.is_main and job.gives_up_collapsed)
    followed = live.following(watch.following(monitor))
    with closing(loggers), training.StopSignals() as signals:
        if start == 0 and ranks.is_main:
            write_quarantine(run, images.images)
            job.draw_inputs(run, parts)
            job.prepare(run, parts, session)
            course.time_closing(
                report=lambda: followed(0), rest=lambda: job.rehearse(run, learner, parts)
            )
        elif course.pace is not None and not course.pace.closing_seconds and ranks.is_main:
            # The run had no budget before; how long its reports take is measured at the next one.
            course.time_closing(report=lambda: None, rest=lambda: job.rehearse(run, learner, parts))
        schedule = recipe.schedule_of(len(parts.training), course.timeline)
        watch.restore(start, total_steps=schedule.total_steps)
        lost = training.agreed_reason(watch.reason(), ranks)
        given_up = training.Outcome(step=start, stopped=True, reason=lost) if lost else None
        outcome = given_up or training.train(
            learner,
            make_loader(
                recipe, parts.training, session.device, workers=session.workers, ranks=ranks,
                start=start, total_steps=schedule.total_steps if course.pace is None else None,
            ),
            optimizer=optimizer, schedule=schedule, precision=precision, metrics_log=metrics_log,
            save=lambda step: checkpoints.save(
                step, training.collect(learner, optimizer),
                {"passes": encode(learner.passes), "record": metrics_log.content,
                 **course.meta(schedule)},
            ),
            keep_every=keep_every, on_epoch=followed, on_report=live.write,
            stop=lambda: signals() or watch.reason(), pace=course.pace, ranks=ranks,
            # What a task without micro-batches does is exact in any case.
            exact=bool(run.description.get("exact")) and learner.takes_micro_batches,
        )  # fmt: skip
    # All processes take part in what comes after the last step.
    if (outcome.stopped or job.complete(run, learner, parts, session)) and ranks.is_main:
        _conclude(
            job, run, learner, parts, session, outcome=outcome, monitor=monitor, watch=watch,
            metrics_log=metrics_log,
        )  # fmt: skip
    return run


class _Network(NamedTuple):
    """What is trained, as it was after ``step`` steps.

    initial: the same network before the first step; None where the weights that the run started
    with are gone. meta: that of the checkpoint, empty without one.
    """

    learner: NetworkTask
    initial: NetworkTask | None
    precision: training.Precision
    optimizer: torch.optim.Optimizer
    step: int
    meta: dict[str, Any]


def _network_of(
    job: Job, run: Run, checkpoints: training.Checkpoints, session: Session
) -> _Network:
    """The network of ``run`` from its last checkpoint, or from the start.

    Raises InvalidValue, RunError or DamagedFile where it has neither.
    """
    recipe = run.recipe
    initial, exact = _initial_learner(run, session.ranks, required=not checkpoints.steps())
    learner = copy.deepcopy(initial)
    job.equip(run, learner)
    # As the run began: "auto" may mean something else on the machine that it goes on.
    begun = run.description["environment"]["precision"]
    precision = precision_of(replace(recipe, precision=begun), learner, session.device)
    precision.prepare(learner)
    optimizer = recipe.optimizer.build(learner)
    step, meta = _restore_latest(checkpoints, learner, optimizer)
    return _Network(learner, initial if exact else None, precision, optimizer, step, meta)


def _conclude(
    job: Job, run: Run, learner: NetworkTask, parts: Parts, session: Session, *,
    outcome: training.Outcome, monitor: Monitor, watch: CollapseWatch,
    metrics_log: training.MetricsLog,
) -> None:  # fmt: skip
    """Leave a run that was stopped, or finish one that has ended, by itself or given up."""
    diagnosis = None
    if outcome.diverged:
        diagnosis = job.failed(run, monitor, outcome.reason, outcome.step)
    elif watch.reason():
        diagnosis = watch.diagnosis()
    if outcome.stopped and diagnosis is None:
        leave(run, learner, outcome.reason)
    else:
        metrics_log.mend()  # the diagnosis is made from it
        job.finish(run, learner, parts, session, diagnosis)
    if run.is_ended and not run.is_nested:
        say_end(run, session.clock)


def _open_loggers(run: Run, session: Session) -> Loggers:
    """The loggers of the session; those of the main process alone."""
    if not session.ranks.is_main:
        return Loggers()
    settings = dict(flatten(run.description["recipe"]))
    info = RunInfo(
        path=run.path, folder=run.loggers_path, created=run.description["created"],
        settings=settings,
    )  # fmt: skip
    return Loggers.of(session.log_to, info)


def _initial_learner(run: Run, ranks: Ranks, *, required: bool) -> tuple[NetworkTask, bool]:
    """(the learner before the first step, True), or (a fresh learner, False) where the weights
    that the run started with are gone.

    A run that has a checkpoint needs them only to measure parameter_change. Raises InvalidValue,
    RunError or DamagedFile where they are ``required``.
    """
    recipe, total = run.recipe, run.description["total_steps"]
    try:
        learner = build_task(recipe, run.start, total_steps=total, ranks=ranks)
    except (InvalidValue, RunError, DamagedFile) as error:
        if required:
            raise
        say(f"{error} The run goes on without them; parameter_change is not measured any more.")
        return build_task(recipe, total_steps=total, ranks=ranks), False
    return learner, True


def _restore_latest(
    checkpoints: training.Checkpoints, learner: NetworkTask, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    """The steps done, with their state put back, and the checkpoint's meta; (0, {}) and nothing
    moved where there are none."""
    checkpoint = checkpoints.load_latest()
    if checkpoint is None:
        return 0, {}
    for sentence in checkpoint.damaged:
        say(f"Skipped a damaged checkpoint: {sentence}")
    training.restore(learner, optimizer, checkpoint.tensors)
    if "passes" in checkpoint.meta:  # a batch that once did not fit will not fit again
        learner.set_passes(decode_one(checkpoint.meta["passes"], Passes))
    say(f"Going on after step {checkpoint.step:,}.", detail=True)
    return checkpoint.step, checkpoint.meta
