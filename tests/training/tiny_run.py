"""A whole training run of seconds: noise images, real views, a tiny ResNet, every part real."""

from pathlib import Path

import numpy as np
import torch

from coview.core.images import store_from_arrays
from coview.encoders import resnet
from coview.heads import HeadSpec
from coview.methods import Learner, byol, logo, moco, simclr, supcon
from coview.training import (
    BatchLoader,
    Checkpoints,
    MetricsLog,
    OptimizerSpec,
    Schedule,
    ScheduleSpec,
    StopSignals,
    choose_precision,
    collect,
    restore,
    train,
)
from coview.views import views_of

BATCH, SEED = 8, 5
HEAD = HeadSpec(output=16)
METHODS = {
    "simclr": lambda: simclr(8, head=HEAD),
    "supcon": lambda: supcon(8, head=HEAD),
    "byol": lambda: byol(8, head=HEAD, predictor=HEAD),
    # Queue, average, critic and groups of BatchNorm, all of which have a state or a draw.
    "logo-moco": lambda: logo(moco(8, head=HEAD, queue=24, ghost_batch_size=4, symmetric=True)),
}
OPTIMIZERS = {
    "sgd": OptimizerSpec(name="sgd", learning_rate=0.5, weight_decay=1e-4),
    "adamw": OptimizerSpec(name="adamw", learning_rate=0.05, weight_decay=0.01),
    "lars": OptimizerSpec(name="lars", learning_rate=30.0, weight_decay=1e-4),
}


def noise_store(images=36, size=12):
    """Coarse colored noise, larger than the views, with labels 0 to 2."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (images, 4, 4, 3), dtype=np.uint8)
    pictures = coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    return store_from_arrays(pictures, labels=np.arange(images, dtype=np.int64) % 3)


def build(folder, *, optimizer="sgd", workers=0, total_steps=40, method="simclr", step=None):
    """Everything ``run`` needs, from the latest checkpoint in ``folder`` or from the start."""
    folder, store = Path(folder), noise_store()
    plan = METHODS[method]()
    learner = Learner(
        plan, resnet(18, width=0.0625, stem="small", seed=SEED), head_seed=SEED,
        total_steps=total_steps,
    )  # fmt: skip
    precision = choose_precision("fp32", torch.device("cpu"))
    precision.prepare(learner)
    spec = OPTIMIZERS[optimizer]
    rule = spec.build(learner)
    checkpoints = Checkpoints(folder / "checkpoints")
    latest = checkpoints.load_latest()
    if latest is not None:
        restore(learner, rule, latest.tensors)
    start = latest.step if latest is not None else 0
    loader = BatchLoader(
        store.ids, store.labels,
        lambda rows, ids, epoch: views_of(store, rows, plan.views, seed=SEED, epoch=epoch),
        batch_size=BATCH, seed=SEED, total_steps=total_steps, start_step=start, workers=workers,
    )  # fmt: skip
    rates = ScheduleSpec(warmup_epochs=1).rates(
        spec.peak(BATCH), total_steps=total_steps, steps_per_epoch=loader.steps_per_epoch
    )
    metrics_log = MetricsLog(
        folder / "metrics.jsonl", chance_level=learner.chance_level(BATCH), every=5, step=start
    )
    settings = {
        "optimizer": rule, "schedule": Schedule.fixed(rates), "precision": precision, "metrics_log": metrics_log,
        "save": lambda step: checkpoints.save(step, collect(learner, rule), {}),
    }  # fmt: skip
    return learner, loader, settings


def run(folder, *, stop_after=None, **changes):
    """Train in ``folder``, from where it is; stop in order after so many steps."""
    learner, loader, settings = build(folder, **changes)
    done = []

    def stop():
        done.append(1)
        reached = stop_after is not None and loader.start_step + len(done) >= stop_after
        return "stopped by the test" if reached else ""

    outcome = train(learner, loader, stop=stop, **settings)
    return outcome, collect(learner, settings["optimizer"])


def main(folder):
    """A run as a process of its own, which signals stop; says when it has begun."""
    learner, loader, settings = build(folder, total_steps=400, workers=1)
    with StopSignals() as signals:
        outcome = train(
            learner, loader, stop=signals, save_seconds=1e9,
            on_report=lambda row: print(row["step"], flush=True), **settings,
        )  # fmt: skip
    print("stopped" if outcome.stopped else "ended", outcome.step, flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1])
