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
from coview.core.ranks import ALONE, Ranks
from coview.training.distribution import agreed_reason
from coview.training.feed import Feed
from coview.training.precision import Precision
from coview.training.schedules import Rates
from coview.training.step import DoesNotFit, Step, seed_step, take_step
from coview.training.task import Task
from coview.training.telemetry import Telemetry

PATIENCE = 10
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
    feed: Feed,
    *,
    optimiser: torch.optim.Optimizer,
    learning_rates: Rates | Sequence[float],
    precision: Precision,
    telemetry: Telemetry,
    save: Callable[[int], object],
    save_seconds: float = SAVE_SECONDS,
    on_epoch: Callable[[int], object] | None = None,
    on_report: Callable[[Mapping[str, Any]], object] | None = None,
    stop: Callable[[], str] = str,
    patience: int = PATIENCE,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train ``task`` on every batch of ``feed``; steps count from 0, ``step`` below is steps done.

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
    and the record names its images. ``patience`` such steps in a row stop the run.
    """
    task.train()
    pace, refused, saved, cost = Pace(feed), 0, time.monotonic(), 0.0
    images = (feed.total_steps - feed.start_step) * feed.batch_size
    with (
        _own_generators(precision.device),
        progress("Training", images) as advance,
        closing(iter(feed)) as batches,
    ):
        for batch in batches:
            rate, done = float(learning_rates[batch.step]), batch.step + 1
            step, note = _fitted(task, batch, optimiser, rate, precision, ranks, feed.seed)
            pace.lap(batch.whole)
            if note:
                telemetry.write("event", done, text=note)
                say(note)
            refused = 0 if step.accepted else refused + 1
            if not step.accepted:
                ids = ranks.gather(batch.ids, batch.sizes or None)
                telemetry.write("refused", done, ids=ids.tolist(), reason=step.fault)
            elif telemetry.due(done):
                row = _report(telemetry, over_ranks(step, ranks), rate, done, pace)
                if on_report is not None and ranks.leads:
                    on_report(row)
            last = done == feed.total_steps
            if on_epoch is not None and ranks.leads and (last or done % feed.steps_per_epoch == 0):
                on_epoch(done)
            diverged = refused == patience
            reason = _gave_up(refused, step) if diverged else agreed_reason(stop(), ranks)
            if reason:
                telemetry.write("event", done, text=reason)
            now = time.monotonic()
            wait = save_seconds * max(1.0, cost / SLOW_SAVE)
            due = reason or last or now - saved >= wait
            if due and ranks.leads:
                _save(save, done, telemetry, needed=bool(reason) or last)
                saved = time.monotonic()
                cost = saved - now
            advance(batch.whole, telemetry.note())
            if reason:
                return Outcome(step=done, stopped=True, reason=reason, diverged=diverged)
            pace.start()
    return Outcome(step=feed.total_steps, stopped=False, reason="")


def _fitted(
    task: Task,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
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
        seed_step(seed, batch.step, precision.device)
        try:
            step = take_step(task, batch, optimiser, rate, precision, ranks)
        except DoesNotFit:
            # Other ranks wait for this one in the middle of the step: they cannot go back.
            note = task.go_smaller(len(batch)) if ranks.alone else ""
            if not note:
                raise
            notes.append(note)
        else:
            return step, " ".join(notes)


class Pace:
    """Images, seconds and waiting since the last report; only time spent in steps counts."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.begin()

    def begin(self) -> None:
        """A new report."""
        self.images, self.seconds, self._waited = 0, 0.0, self.feed.seconds_waited
        self.start()

    def start(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def lap(self, images: int) -> None:
        """The step has ended."""
        self.images += images
        self.seconds += time.perf_counter() - self._started

    @property
    def waited(self) -> float:
        """Seconds spent waiting for the feed."""
        return self.feed.seconds_waited - self._waited


def over_ranks(step: Step, ranks: Ranks) -> Step:
    """The step with the terms of the whole batch: their mean over the ranks."""
    return replace(step, terms={name: ranks.mean(term) for name, term in step.terms.items()})


def _report(telemetry: Telemetry, step: Step, rate: float, done: int, pace: Pace) -> dict[str, Any]:
    seconds = max(pace.seconds, 1e-9)
    terms = {name: float(term) for name, term in step.terms.items()}
    row = telemetry.write(
        "step",
        done,
        epoch=done / pace.feed.steps_per_epoch,
        loss=step.loss,
        **({"terms": terms} if len(terms) > 1 else {}),
        learning_rate=rate,
        gradient_norm=float(step.gradient_norm),
        images_per_second=pace.images / seconds,
        wait_share=min(1.0, pace.waited / seconds),
        seconds=telemetry.seconds + pace.seconds,
    )
    pace.begin()
    return row


def _save(save: Callable[[int], object], step: int, telemetry: Telemetry, *, needed: bool) -> None:
    try:
        telemetry.sync()  # a checkpoint must not outlive the record of the steps before it
        save(step)
    except StorageError as error:
        if needed:
            raise
        text = f"The checkpoint of step {step} is missing: {error}"
        telemetry.write("event", step, text=text)
        say(text)


def _gave_up(refused: int, step: Step) -> str:
    return (
        f"{refused} steps in a row were refused, the last because {step.fault}; the network is as "
        "it was before them"
    )


def _own_generators(device: torch.device) -> Any:
    """Torch's generators are seeded at each step; afterwards they are as the caller had them."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
