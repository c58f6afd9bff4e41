"""The training loop: batch, step, metrics, checkpoint, until the end or a reason to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from coview.core.batches import Batch
from coview.core.clock import Clock
from coview.core.errors import StorageError
from coview.core.memory import DoesNotFit
from coview.core.progress import progress, say
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.repeatable import repeatable
from coview.training.distribution import agreed_reason
from coview.training.loader import BatchLoader
from coview.training.metrics_log import MetricsLog
from coview.training.pace import Pace
from coview.training.precision import Precision
from coview.training.step import Step, seed_torch, train_step
from coview.training.task import Task
from coview.training.timeline import Schedule

MAX_SKIPPED_STEPS = 10
EXACT_ONLY = (
    "A recipe given as a value is not changed: start again with one of these, or with `passes` of "
    "a smaller `micro_batch`, which BatchNorm then sees at a time."
)
REPLANS = 300
"""How often the length of a run with a budget is planned again, at least."""
# Seconds between checkpoints. After a save of more than SLOW_SAVE seconds the interval grows in
# proportion, so saving takes at most 2 % of the time.
SAVE_SECONDS, SLOW_SAVE = 30.0, 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``step`` steps are done and saved; ``stopped``: before the end, for ``reason`` (else "").

    ``diverged``: the reason is ``max_skipped_steps`` skipped steps in a row.
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
    schedule: Schedule,
    precision: Precision,
    metrics_log: MetricsLog,
    save: Callable[[int], object],
    save_seconds: float = SAVE_SECONDS,
    keep_every: int | None = None,
    on_epoch: Callable[[int, bool], bool] | None = None,
    on_report: Callable[[Mapping[str, Any]], object] | None = None,
    stop: Callable[[], str] = str,
    max_skipped_steps: int = MAX_SKIPPED_STEPS,
    pace: Pace | None = None,
    exact: bool = False,
    ranks: Ranks = SINGLE_PROCESS,
) -> Outcome:
    """Train ``task`` to the end of ``schedule``. ``step`` below is the number of steps done.

    on_epoch(step, last): called after each epoch and after the last step, before the checkpoint, so
        a resumed run neither repeats nor misses it. Returns whether it did all that it does last.
    on_report(row): called with each line of kind "step".
    save(step): called every ``save_seconds`` (less often where a save is slow), every
        ``keep_every`` steps, at the end and before stopping. A StorageError during the run becomes
        an event in the log and training continues; at the end and before stopping it is raised.
    stop(): called after each step; a reason in words stops the run, "" continues.
    max_skipped_steps: a step whose loss or gradient is not finite is skipped. Only the step counter
        moves, and the log has the images. So many skipped steps in a row stop the run.
    pace: of a run with a budget. Rank 0 asks it at the report steps, or more often where few steps
        are left, how many steps fit; where they are others, ``schedule`` is planned again and the
        log gets a line of kind "plan". The loader's batches must not end before.
    exact: where a batch does not fit into memory, take only what leaves the gradient as it is.
        DoesNotFit is raised where that is not enough.

    All ``ranks`` call this with the same arguments. Only rank 0 reports, saves and runs the
    callbacks; the reported loss is that of the global batch.

    >>> from coview.methods import simclr
    >>> from coview.testing.methods import make_batch, make_learner
    >>> learner, batch = make_learner(simclr(8)), make_batch(simclr(8))
    >>> loader = BatchLoader(batch.ids.numpy(), None, lambda rows, ids, epoch: batch.views,
    ...     batch_size=8, seed=0, total_steps=3)
    >>> train(learner, loader, optimizer=torch.optim.SGD(learner.parameters()),
    ...     schedule=Schedule.fixed([0.1] * 3), precision=Precision(torch.device("cpu"), "fp32"),
    ...     metrics_log=MetricsLog(None, chance_level=2.7), save=lambda step: None)
    Outcome(step=3, stopped=False, reason='', diverged=False)
    """
    task.train()
    pace = pace or Pace(Clock())
    throughput, skipped = Throughput(loader), 0
    saves = _Saves(save, metrics_log, pace, seconds=save_seconds, keep_every=keep_every)
    to_do = schedule.total_steps - loader.start_step
    # A resumed run reports by its whole length, of which little may be left.
    replan_every = max(1, min(metrics_log.every, math.ceil(to_do / REPLANS)))
    images = to_do * loader.batch_size
    cuda = [precision.device] if precision.device.type == "cuda" else []
    with (
        repeatable(precision.device),
        torch.random.fork_rng(devices=cuda),  # restores the caller's; every step seeds them
        progress("Training", images) as advance,
        closing(_batches(loader, schedule)) as batches,
    ):
        pace.begin(loader.start_step)
        for batch in batches:
            rate, done = schedule.rate(batch.step), batch.step + 1
            step, note = _step_in_memory(
                task, batch, optimizer, schedule, precision, ranks, loader.seed, exact=exact
            )
            throughput.add_step(batch.global_size)
            if note:
                _tell(metrics_log, done, note)
            skipped = skipped + 1 if step.skipped else 0
            if step.skipped:
                ids = ranks.gather(batch.ids, batch.sizes or None)
                metrics_log.write("skipped", done, ids=ids.tolist(), reason=step.reason)
            elif metrics_log.due(done):
                row = _report(metrics_log, step, rate, done, throughput, ranks)
                if on_report is not None and ranks.is_main:
                    on_report(row)
            if done % replan_every == 0:
                _replan(schedule, pace, done, metrics_log, ranks)
            last = done == schedule.total_steps
            ends_epoch = last or done % loader.steps_per_epoch == 0
            if on_epoch is not None and ranks.is_main and ends_epoch:
                _report_epoch(on_epoch, done, pace, last=last)
            diverged = skipped == max_skipped_steps
            reason = _divergence(skipped, step) if diverged else agreed_reason(stop(), ranks)
            if reason:
                metrics_log.write("event", done, text=reason)
            needed = bool(reason) or last
            if ranks.is_main and (needed or saves.is_due(done)):
                saves(done, needed=needed)
            left = (schedule.total_steps - done) * loader.batch_size
            advance(batch.global_size, metrics_log.note(done / loader.steps_per_epoch), left)
            if reason:
                return Outcome(step=done, stopped=True, reason=reason, diverged=diverged)
            throughput.start()
    return Outcome(step=schedule.total_steps, stopped=False, reason="")


def _batches(loader: BatchLoader, schedule: Schedule) -> Generator[Batch, None, None]:
    """The loader's batches up to the end of the schedule, which may come nearer or go farther."""
    if loader.start_step >= schedule.total_steps:
        return
    with closing(iter(loader)) as batches:
        for batch in batches:
            yield batch
            if batch.step + 1 >= schedule.total_steps:
                return


def _replan(
    schedule: Schedule, pace: Pace, done: int, metrics_log: MetricsLog, ranks: Ranks
) -> None:
    """Plan the number of steps again; the clock of rank 0 decides for all."""
    if pace.clock.budget is None:
        return
    planned = schedule.total_steps
    total = ranks.sizes(pace.total_steps(done, planned=planned))[0]
    if total == planned:
        return
    schedule.replan(done, total=total)
    metrics_log.write("plan", done, total_steps=total, seconds_used=pace.clock.used)
    if note := pace.note(total, planned=planned):
        _tell(metrics_log, done, note)


def _step_in_memory(
    task: Task, batch: Batch, optimizer: torch.optim.Optimizer, schedule: Schedule,
    precision: Precision, ranks: Ranks, seed: int, *, exact: bool,
) -> tuple[Step, str]:  # fmt: skip
    """The step, and what the task changed to fit the batch into memory ("" for nothing).

    Every attempt uses the random numbers of (seed, step).
    """
    notes: list[str] = []
    while True:
        seed_torch(seed, batch.step, precision.device)
        try:
            step = train_step(
                task, batch, optimizer, schedule.rate(batch.step), precision, ranks,
                position=schedule.position(batch.step),
            )  # fmt: skip
        except DoesNotFit as error:
            # With several ranks the others wait inside the step and cannot repeat it.
            # cuDNN may keep another plan from here on than a resumed run (decision 0022).
            note = task.reduce_memory(len(batch), exact=exact) if ranks.is_single else ""
            if not note and exact:
                raise DoesNotFit(f"{error} {EXACT_ONLY}") from error
            if not note:
                raise
            notes.append(note)
        else:
            return step, " ".join(notes)


class Throughput:
    """Images, seconds in steps and seconds of waiting since the last report."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader
        self.reset()

    def reset(self) -> None:
        self.images, self.seconds, self._waited = 0, 0.0, self.loader.seconds_waited
        self.start()

    def start(self) -> None:
        self._started = time.perf_counter()

    def add_step(self, images: int) -> None:
        self.images += images
        self.seconds += time.perf_counter() - self._started

    @property
    def waited(self) -> float:
        return self.loader.seconds_waited - self._waited


def _report(
    metrics_log: MetricsLog, step: Step, rate: float, done: int, throughput: Throughput,
    ranks: Ranks,
) -> dict[str, Any]:  # fmt: skip
    # The terms of the global batch are their mean over the ranks.
    step = replace(step, terms={name: ranks.mean(term) for name, term in step.terms.items()})
    seconds = max(throughput.seconds, 1e-9)
    terms = {name: float(term) for name, term in step.terms.items()}
    row = metrics_log.write(
        "step", done, epoch=done / throughput.loader.steps_per_epoch, loss=step.loss,
        **({"terms": terms} if len(terms) > 1 else {}), learning_rate=rate,
        gradient_norm=float(step.gradient_norm), images_per_second=throughput.images / seconds,
        wait_share=min(1.0, throughput.waited / seconds),
        seconds=metrics_log.seconds + throughput.seconds,
    )  # fmt: skip
    throughput.reset()
    return row


def _tell(metrics_log: MetricsLog, step: int, text: str) -> None:
    metrics_log.write("event", step, text=text)
    say(text)


def _report_epoch(
    on_epoch: Callable[[int, bool], bool], done: int, pace: Pace, *, last: bool
) -> None:
    with pace.beside():
        started = pace.clock.now()
        reported = on_epoch(done, last)
    if reported:
        pace.report_took(pace.clock.now() - started)


class _Saves:
    """The checkpoints of a loop: every ``seconds``, less often where a save is slow, and every
    ``keep_every`` steps."""

    def __init__(
        self, save: Callable[[int], object], metrics_log: MetricsLog, pace: Pace, *,
        seconds: float, keep_every: int | None,
    ) -> None:  # fmt: skip
        self._save, self._metrics_log, self._pace = save, metrics_log, pace
        self._seconds, self._keep_every = seconds, keep_every
        self._ended, self._took = time.monotonic(), 0.0

    def is_due(self, done: int) -> bool:
        wait = self._seconds * max(1.0, self._took / SLOW_SAVE)
        kept = self._keep_every is not None and done % self._keep_every == 0
        return kept or time.monotonic() - self._ended >= wait

    def __call__(self, done: int, *, needed: bool) -> None:
        """Save after ``done`` steps. A StorageError is raised if ``needed``, else it is logged."""
        started = time.monotonic()
        with self._pace.beside():
            try:
                self._metrics_log.sync()  # the log must have all steps before the checkpoint
                self._save(done)
            except StorageError as error:
                if needed:
                    raise
                text = f"The checkpoint of step {done} was not saved: {error}"
                _tell(self._metrics_log, done, text)
        self._ended = time.monotonic()
        self._took = self._ended - started


def _divergence(skipped: int, step: Step) -> str:
    return (
        f"{skipped} steps in a row were skipped, the last because {step.reason}; they did not "
        "change the network"
    )
