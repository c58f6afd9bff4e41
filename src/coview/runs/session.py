"""One sitting of a run: from where it stands to its end, or to where it is stopped."""

from __future__ import annotations

import math

import torch

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.progress import say
from coview.methods import Learner
from coview.recipes import Recipe
from coview.runs.finish import finish, leave
from coview.runs.images import hold_out
from coview.runs.network import build
from coview.runs.run import Run
from coview.runs.watch import Watch
from coview.training import (
    Checkpoints,
    Feed,
    Precision,
    StopSignals,
    Telemetry,
    choose_precision,
    collect,
    restore,
    train,
)  # fmt: skip
from coview.training.feed import Render, Rows
from coview.views import views_of

REPORTS = 300


def go(run: Run, store: ImageStore, *, device: torch.device, workers: int | None = None) -> Run:
    """Train ``run`` on ``store`` from its last checkpoint, or from the start; returns the run.

    Ctrl-C and SIGTERM save and leave. At the end come the verdict, the export and the report.
    """
    recipe = run.recipe
    train_rows, held_rows = hold_out(store, recipe.seed)
    training, held_out = store.subset(train_rows), store.subset(held_rows)
    precision = choose_precision(recipe.precision, device)
    learner = build(recipe, run.description["weights"])
    precision.prepare(learner)
    optimiser = recipe.optimiser.build(learner)
    checkpoints = Checkpoints(run.path / "checkpoints")

    start = _restored(checkpoints, learner, optimiser)
    total = recipe.total_steps(len(training))
    telemetry = Telemetry(
        run.path / "metrics.jsonl", chance=run.description["chance"],
        every=max(1, math.ceil(total / REPORTS)), step=start,
    )  # fmt: skip
    watch = Watch(learner, recipe, training, held_out, telemetry)
    if start == 0:
        watch(0)
    with StopSignals() as signals:
        outcome = train(
            learner,
            feed_of(recipe, training, precision, start=start, workers=workers),
            optimiser=optimiser,
            learning_rates=recipe.rates(len(training)),
            precision=precision,
            telemetry=telemetry,
            save=lambda step: checkpoints.save(step, collect(learner, optimiser), {}),
            on_epoch=watch,
            stop=signals,
        )
    if outcome.stopped:
        leave(run, learner, outcome.reason)
    else:
        finish(run, learner, store)
    return run


def feed_of(
    recipe: Recipe,
    training: ImageStore,
    precision: Precision,
    *,
    start: int = 0,
    workers: int | None = None,
) -> Feed:
    """The batches of the run; on a CPU one thread renders beside the step, else up to eight."""
    if workers is None:
        workers = 1 if precision.device.type == "cpu" else max(1, min(8, cores() - 1))
    objective = recipe.method.objective
    if objective.needs_labels and training.labels is None:
        raise DataError(
            f"{recipe.method.name} learns from labels and these images have none; put each class "
            "into a folder of its own and give --labels folders, or learn without them by simclr."
        )
    return Feed(
        training.ids,
        training.labels if objective.needs_labels else None,
        renderer(recipe, training),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        total_steps=recipe.total_steps(len(training)),
        start_step=start,
        workers=workers,
        pin=precision.device.type == "cuda",
    )


def renderer(recipe: Recipe, store: ImageStore) -> Render:
    """(rows, ids, epoch) -> the views of the recipe; the ids are those of the rows."""
    plan, seed = recipe.method.views, recipe.seed

    def render(rows: Rows, ids: Rows, epoch: int) -> tuple[torch.Tensor, ...]:
        return views_of(store, rows, plan, seed=seed, epoch=epoch)

    return render


def _restored(checkpoints: Checkpoints, learner: Learner, optimiser: torch.optim.Optimizer) -> int:
    """The steps done, with their state put back; 0 and nothing moved where there are none."""
    checkpoint = checkpoints.load_latest()
    if checkpoint is None:
        return 0
    for sentence in checkpoint.damaged:
        say(f"Passed over a damaged checkpoint: {sentence}")
    restore(learner, optimiser, checkpoint.tensors)
    say(f"Going on after step {checkpoint.step:,}.")
    return checkpoint.step
