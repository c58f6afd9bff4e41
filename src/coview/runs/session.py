"""One sitting of a run: from where it stands to its end, or to where it is stopped."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch

from coview.core.errors import DamagedFile, DataError, InvalidValue, RunError, StorageError
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.progress import say
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.values import decode_one, encode
from coview.data.held_out import hold_out
from coview.diagnosis.gallery import write_contact_sheet
from coview.diagnosis.monitor import Monitor
from coview.diagnosis.rules import diverged
from coview.methods import Learner, Passes
from coview.recipes import Recipe
from coview.recipes.build import build, precision_of
from coview.runs.describe import write_quarantine
from coview.runs.finish import finish, judge, leave
from coview.runs.run import Run
from coview.training import (
    BatchLoader,
    Checkpoints,
    MetricsLog,
    Precision,
    StopSignals,
    collect,
    restore,
    train,
)  # fmt: skip
from coview.training.class_balanced_sampler import ClassBalancedSampler
from coview.training.distribution import assert_replicas_equal
from coview.training.loader import Render, Rows
from coview.views import views_of

REPORTS = 300


def go(
    run: Run,
    store: ImageStore,
    *,
    device: torch.device,
    workers: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Run:
    """Train ``run`` on ``store`` from its last checkpoint, or from the start; returns the run.

    Ctrl-C and SIGTERM save and leave. At the end come the export, the verdict and the report. Of
    several ``ranks`` all of them call this; rank 0 alone writes.
    Raises RunError where the disk refuses what has to be saved.
    """
    try:
        return _go(run, store, device, workers, ranks)
    except StorageError as error:
        raise RunError(f"{error} Then go on with: coview resume {run.path}") from error
    except KeyboardInterrupt:  # before the first step, or after the last
        say(f"Go on with: coview resume {run.path}")
        raise


def _go(
    run: Run, store: ImageStore, device: torch.device, workers: int | None, ranks: Ranks
) -> Run:
    recipe = run.recipe
    train_rows, held_rows = hold_out(store, recipe.seed)
    training, held_out = store.subset(train_rows), store.subset(held_rows)
    checkpoints = Checkpoints(run.checkpoints_path)
    untrained, known = _first_values(run, ranks, needed=not checkpoints.steps())
    learner = copy.deepcopy(untrained)
    # As the run began: "auto" may mean something else on the machine that it goes on.
    begun = run.description["environment"]["precision"]
    precision = precision_of(replace(recipe, precision=begun), learner, device)
    precision.prepare(learner)
    optimizer = recipe.optimizer.build(learner)

    start = _restored(checkpoints, learner, optimizer)
    assert_replicas_equal(learner, ranks)
    if start == 0 and run.metrics_path.exists():
        say("There is no checkpoint yet, so the run begins anew.")
    total = recipe.total_steps(len(training))
    metrics_log = MetricsLog(
        run.metrics_path if ranks.is_main else None, chance_level=run.description["chance_level"],
        every=max(1, math.ceil(total / REPORTS)), step=start,
    )  # fmt: skip
    monitor = Monitor(
        learner, untrained if known else None, recipe, training, held_out, metrics_log
    )
    with StopSignals() as signals:
        if start == 0 and ranks.is_main:
            write_quarantine(run.path, store)
            write_contact_sheet(run.path, store, recipe.method.views, seed=recipe.seed)
            monitor(0)
        outcome = train(
            learner,
            make_loader(recipe, training, precision, start=start, workers=workers, ranks=ranks),
            optimizer=optimizer,
            learning_rates=recipe.rates(len(training)),
            precision=precision,
            metrics_log=metrics_log,
            save=lambda step: checkpoints.save(
                step, collect(learner, optimizer), {"passes": encode(learner.passes)}
            ),
            on_epoch=monitor,
            stop=signals,
            ranks=ranks,
        )
    if not ranks.is_main:
        return run
    if outcome.diverged:
        monitor.health(outcome.step)
        finish(run, learner, store, diverged(outcome.reason, outcome.step))
    elif outcome.stopped:
        leave(run, learner, outcome.reason)
    else:
        finish(run, learner, store, judge(run))
    return run


def _first_values(run: Run, ranks: Ranks, *, needed: bool) -> tuple[Learner, bool]:
    """The learner as it was before the first step, and whether it is.

    Where the weights that the run began with have gone, a run that has a checkpoint does not need
    them but to say how far it has moved. Raises InvalidValue, RunError or DamagedFile where they
    are ``needed``.
    """
    recipe, total = run.recipe, run.description["total_steps"]
    try:
        found = build(recipe, run.description["weights"], total_steps=total, ranks=ranks)
    except (InvalidValue, RunError, DamagedFile) as error:
        if needed:
            raise
        say(f"{error} The run goes on without them; how far it has moved is not measured any more.")
        return build(recipe, total_steps=total, ranks=ranks), False
    return found, True


def make_loader(
    recipe: Recipe,
    training: ImageStore,
    precision: Precision,
    *,
    start: int = 0,
    workers: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> BatchLoader:
    """The batches of the run; on a CPU one thread renders beside the step, else up to eight."""
    if workers is None:
        workers = 1 if precision.device.type == "cpu" else max(1, min(8, cores() - 1))
    supervised = recipe.method.needs_labels
    if supervised and training.labels is None:
        raise DataError(
            f"{recipe.method.name} learns from labels and these images have none; put each class "
            "into a folder of its own and give --labels folders, or learn without them by simclr."
        )
    return BatchLoader(
        training.ids,
        training.labels if supervised else None,
        renderer(recipe, training),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        total_steps=recipe.total_steps(len(training)),
        start_step=start,
        workers=workers,
        pin=precision.device.type == "cuda",
        ranks=ranks,
        sampler=_order(recipe, training),
    )


def _order(recipe: Recipe, training: ImageStore) -> ClassBalancedSampler | None:
    """Batches of as many classes as the recipe says; None for batches drawn at random."""
    if recipe.classes_per_batch is None:
        return None
    if training.labels is None:
        raise DataError(
            "--classes-per-batch needs labels and these images have none; put each class into a "
            "folder of its own and give --labels folders."
        )
    classes = recipe.classes_per_batch
    return ClassBalancedSampler(
        training.ids, training.labels, classes=classes, images=recipe.batch_size // classes,
        seed=recipe.seed,
    )  # fmt: skip


def renderer(recipe: Recipe, store: ImageStore) -> Render:
    """(rows, ids, epoch) -> the views of the recipe; the ids are those of the rows."""
    plan, seed = recipe.method.views, recipe.seed

    def render(rows: Rows, ids: Rows, epoch: int) -> tuple[torch.Tensor, ...]:
        return views_of(store, rows, plan, seed=seed, epoch=epoch)

    return render


def _restored(checkpoints: Checkpoints, learner: Learner, optimizer: torch.optim.Optimizer) -> int:
    """The steps done, with their state put back; 0 and nothing moved where there are none."""
    checkpoint = checkpoints.load_latest()
    if checkpoint is None:
        return 0
    for sentence in checkpoint.damaged:
        say(f"Passed over a damaged checkpoint: {sentence}")
    restore(learner, optimizer, checkpoint.tensors)
    if "passes" in checkpoint.meta:  # a batch that once did not fit will not fit again
        learner.set_passes(decode_one(checkpoint.meta["passes"], Passes))
    say(f"Going on after step {checkpoint.step:,}.")
    return checkpoint.step
