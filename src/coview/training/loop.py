"""The training loop: batch -> step -> record -> checkpoint, until the end or asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from coview.core.batches import Batch
from coview.core.errors import StorageError
from coview.core.progress import progress, say
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.training.distribution import agreed_reason
from coview.training.loader import BatchLoader
from coview.training.metrics_log import MetricsLog
from coview.training.precision import Precision
from coview.training.schedules import Rates
from coview.training.step import DoesNotFit, Step, seed_torch, train_step
from coview.training.task import Task

MAX_SKIPPED_STEPS = 10
# What a killed process usually loses at most. A save that takes longer than SLOW_SAVE puts off the
# next one in proportion, so that saving takes no more than 2 % of the time.
SAVE_SECONDS, SLOW_SAVE = 30.0, 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``step`` steps are done and saved; ``stopped`` before its time for ``reason``, else "".

    ``diverged``: the reason is that too many steps in a row were refused, so going on is no use.
    """

    step: int
    stopped: bool
    reason: str
    diverged: bool = False


def train(
    task: Task,
    loader: BatchLoader,
    *,
    optimizer: torch.optim.Optimizer,
    learning_rates: Rates | Sequence[float],
    precision: Precision,
    metrics_log: MetricsLog,
    save: Callable[[int], object],
    save_seconds: float = SAVE_SECONDS,
    on_epoch: Callable[[int], object] | None = None,
    on_report: Callable[[Mapping[str, Any]], object] | None = None,
    stop: Callable[[], str] = str,
    max_skipped_steps: int = MAX_SKIPPED_STEPS,
    ranks: Ranks = SINGLE_PROCESS,
) -> Outcome:
    """Train ``task`` on every batch of ``loader``; steps count from 0, ``step`` below is steps done.

    learning_rates: of every step of the whole run. on_epoch(step): after each whole epoch and after
    the last step, before the checkpoint, so that a resumed run neither repeats nor misses it.
    on_report(row): with each line of kind "step". save(step): every ``save_seconds`` (less often
    where a save is slow), at the end and before stopping. Where it raises StorageError in the
    middle, training goes on and the record says so; at the end, and before stopping, the error
    comes out: nothing must seem to be saved.
    stop(): asked after each step; a reason in words stops, "" goes on.

    With several ``ranks`` all of them call this with the same arguments; rank 0 alone reports,
    saves and calls back, and what is reported of the loss is that of the whole batch.

    A step whose loss or gradient is not finite is refused: nothing has moved but the step counter,
    and the record names its images. ``max_skipped_steps`` such steps in a row stop the run.
    """
    task.train()
    throughput, refused, saved, cost = Throughput(loader), 0, time.monotonic(), 0.0
    images = (loader.total_steps - loader.start_step) * loader.batch_size
    with (
        _own_generators(precision.device),
        progress("Training", images) as advance,
        closing(iter(loader)) as batches,
    ):
        for batch in batches:
            rate, done = float(learning_rates[batch.step]), batch.step + 1
            step, note = _fitted(task, batch, optimizer, rate, precision, ranks, loader.seed)
            throughput.add_step(batch.global_size)
            if note:
                metrics_log.write("event", done, text=note)
                say(note)
            refused = 0 if step.accepted else refused + 1
            if not step.accepted:
                ids = ranks.gather(batch.ids, batch.sizes or None)
                metrics_log.write("skipped", done, ids=ids.tolist(), reason=step.fault)
            elif metrics_log.due(done):
                row = _report(metrics_log, over_ranks(step, ranks), rate, done, throughput)
                if on_report is not None and ranks.is_main:
                    on_report(row)
            last = done == loader.total_steps
            if (
                on_epoch is not None
                and ranks.is_main
                and (last or done % loader.steps_per_epoch == 0)
            ):
                on_epoch(done)
            diverged = refused == max_skipped_steps
            reason = _gave_up(refused, step) if diverged else agreed_reason(stop(), ranks)
            if reason:
                metrics_log.write("event", done, text=reason)
            now = time.monotonic()
            wait = save_seconds * max(1.0, cost / SLOW_SAVE)
            due = reason or last or now - saved >= wait
            if due and ranks.is_main:
                _save(save, done, metrics_log, needed=bool(reason) or last)
                saved = time.monotonic()
                cost = saved - now
            advance(batch.global_size, metrics_log.note())
            if reason:
                return Outcome(step=done, stopped=True, reason=reason, diverged=diverged)
            throughput.start()
    return Outcome(step=loader.total_steps, stopped=False, reason="")


def _fitted(
    task: Task,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    rate: float,
    precision: Precision,
    ranks: Ranks,
    seed: int,
) -> tuple[Step, str]:
    """The step, and what the task had to change for the batch to fit into memory, "" for nothing.

    Each attempt has the same randomness, that of (seed, step).
    """
    notes: list[str] = []
    while True:
        seed_torch(seed, batch.step, precision.device)
        try:
            step = train_step(task, batch, optimizer, rate, precision, ranks)
        except DoesNotFit:
            # Other ranks wait for this one in the middle of the step: they cannot go back.
            note = task.reduce_memory(len(batch)) if ranks.is_single else ""
            if not note:
                raise
            notes.append(note)
        else:
            return step, " ".join(notes)


class Throughput:
    """Images, seconds and waiting since the last report; only time spent in steps counts."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader
        self.reset()

    def reset(self) -> None:
        """A new report."""
        self.images, self.seconds, self._waited = 0, 0.0, self.loader.seconds_waited
        self.start()

    def start(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def add_step(self, images: int) -> None:
        """The step has ended."""
        self.images += images
        self.seconds += time.perf_counter() - self._started

    @property
    def waited(self) -> float:
        """Seconds spent waiting for the feed."""
        return self.loader.seconds_waited - self._waited


def over_ranks(step: Step, ranks: Ranks) -> Step:
    """The step with the terms of the whole batch: their mean over the ranks."""
    return replace(step, terms={name: ranks.mean(term) for name, term in step.terms.items()})


def _report(
    metrics_log: MetricsLog, step: Step, rate: float, done: int, throughput: Throughput
) -> dict[str, Any]:
    seconds = max(throughput.seconds, 1e-9)
    terms = {name: float(term) for name, term in step.terms.items()}
    row = metrics_log.write(
        "step",
        done,
        epoch=done / throughput.loader.steps_per_epoch,
        loss=step.loss,
        **({"terms": terms} if len(terms) > 1 else {}),
        learning_rate=rate,
        gradient_norm=float(step.gradient_norm),
        images_per_second=throughput.images / seconds,
        wait_share=min(1.0, throughput.waited / seconds),
        seconds=metrics_log.seconds + throughput.seconds,
    )
    throughput.reset()
    return row


def _save(
    save: Callable[[int], object], step: int, metrics_log: MetricsLog, *, needed: bool
) -> None:
    try:
        metrics_log.sync()  # a checkpoint must not outlive the record of the steps before it
        save(step)
    except StorageError as error:
        if needed:
            raise
        text = f"The checkpoint of step {step} is missing: {error}"
        metrics_log.write("event", step, text=text)
        say(text)


def _gave_up(refused: int, step: Step) -> str:
    return (
        f"{refused} steps in a row were refused, the last because {step.fault}; the network is as "
        "it was before them"
    )


def _own_generators(device: torch.device) -> Any:
    """Torch's generators are seeded at each step; afterwards they are as the caller had them."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
