"""Samplers, which choose the images of each step, and the loader that renders them in threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import accumulate, count, islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.ahead import map_ahead
from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.rng import Stream, permutation
from coview.core.tensors import page_locked
from coview.training.schedules import steps_per_epoch

Rows = npt.NDArray[np.int64]
Render = Callable[[Rows, Rows, int], tuple[Tensor, ...]]

MAX_LISTED_ROWS = 8  # in the note of a failed batch


class Sampler(Protocol):
    """Chooses the images of every epoch, batch by batch. Stateless: an epoch is an argument."""

    batch_size: int
    steps_per_epoch: int

    def rows(self, epoch: int) -> Rows:
        """The rows of an epoch, int64 [steps_per_epoch x batch_size] at least."""
        ...


class RandomSampler:
    """Every epoch a random permutation keyed by (seed, epoch, id), without its last short batch.

    ids int64 [N]. Raises InvalidValue for a batch that is larger than the data.

    >>> sampler = RandomSampler(np.arange(10), batch_size=4, seed=0)
    >>> sampler.steps_per_epoch, sorted(sampler.rows(0).tolist())
    (2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """

    def __init__(self, ids: Rows, *, batch_size: int, seed: int) -> None:
        self.ids, self.batch_size, self.seed = ids, batch_size, seed
        self.steps_per_epoch = steps_per_epoch(len(ids), batch_size)

    def rows(self, epoch: int) -> Rows:
        return permutation(self.seed, Stream.ORDER, self.ids, draw_index=epoch)


def shares(count: int, world: int) -> tuple[int, ...]:
    """The number of images of each rank: count // world, plus 1 for the first count % world ranks.

    Raises InvalidValue where a rank would have none.
    """
    if count < world:
        raise InvalidValue(
            f"`batch_size` is {count}; {world} processes need at least {world}. Raise it or start "
            "fewer processes."
        )
    return tuple(count // world + (rank < count % world) for rank in range(world))


class BatchLoader:
    """The batches of steps ``start_step`` .. ``total_steps`` - 1, or without an end where that is
    None; the step is the only state.

    ids int64 [N]; labels int64 [N] with -1 where unknown, or None.
    render(rows, ids, epoch): the views of the images in ``rows``, V x [B, 3, H, W]. With
        ``workers`` it is called from that many threads at once.
    batch_size: images of all ``ranks`` together. Each rank renders its own consecutive part (see
        :func:`shares`); the parts, in the order of ranks, are the batch of a single process.
    sampler: by default a :class:`RandomSampler`. Step s is batch s % S of its epoch s // S, where S
        is the sampler's ``steps_per_epoch``. The loader's own ``steps_per_epoch`` is N //
        ``batch_size``, for any sampler.
    workers: threads that render in advance, at most ``ahead`` batches at a time (None: ``workers``
        + 1); with 0, a batch is rendered when it is requested.
    pin: copy the batches to page-locked memory, for asynchronous copies to a CUDA device.

    Raises InvalidValue for arguments that do not fit together.
    """

    def __init__(
        self, ids: Rows, labels: Rows | None, render: Render, *, batch_size: int, seed: int,
        total_steps: int | None, start_step: int = 0, workers: int = 0, ahead: int | None = None,
        pin: bool = False, ranks: Ranks = SINGLE_PROCESS, sampler: Sampler | None = None,
    ) -> None:  # fmt: skip
        if workers < 0:
            raise InvalidValue(f"`workers` is {workers}; expected 0 or more.")
        if labels is not None and len(labels) != len(ids):
            raise InvalidValue(f"There are {len(labels)} labels for {len(ids)} images.")
        self.ids, self.labels, self.render = ids, labels, render
        self.sampler = sampler or RandomSampler(ids, batch_size=batch_size, seed=seed)
        if self.sampler.batch_size != batch_size:
            raise InvalidValue(
                f"The sampler's batches have {self.sampler.batch_size} images; expected "
                f"`batch_size`, which is {batch_size}."
            )
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = steps_per_epoch(len(ids), batch_size)
        self.sizes = () if ranks.is_single else shares(batch_size, ranks.world)
        ends = (0, *accumulate(self.sizes or (batch_size,)))
        self._own = slice(ends[ranks.rank], ends[ranks.rank + 1])
        self.total_steps, self.start_step = total_steps, start_step
        self.workers, self.ahead, self.pin = workers, ahead, pin
        self.seconds_waited = 0.0
        self._epoch: tuple[int, Rows] = (-1, ids[:0])

    def __iter__(self) -> Generator[Batch, None, None]:
        """The batches in order of steps. Closing the iterator stops the threads.

        An error of ``render`` is raised at its step, with a note that lists the rows.
        """
        numbers: Iterator[int] = count(self.start_step)
        if self.total_steps is not None:
            numbers = islice(numbers, max(0, self.total_steps - self.start_step))
        steps = ((step, self.rows(step)[self._own]) for step in numbers)
        rendered = map_ahead(self._batch, steps, self.workers, most=self.ahead, name="loader")
        with closing(rendered) as batches:
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                self.seconds_waited += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    def rows(self, step: int) -> Rows:
        """The rows of a step's images on all ranks together, int64 [batch_size]."""
        epoch, batch = divmod(step, self.sampler.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self.sampler.rows(epoch)
        return self._epoch[1][batch * self.batch_size : (batch + 1) * self.batch_size]

    def _batch(self, step_and_rows: tuple[int, Rows]) -> Batch:
        step, rows = step_and_rows
        epoch = step // self.sampler.steps_per_epoch
        try:
            views = self.render(rows, self.ids[rows], epoch)
        except Exception as error:
            listing = ", ".join(map(str, rows[:MAX_LISTED_ROWS]))
            more = (
                "" if len(rows) <= MAX_LISTED_ROWS else f" and {len(rows) - MAX_LISTED_ROWS} more"
            )
            error.add_note(f"while rendering step {step} of epoch {epoch}: rows {listing}{more}")
            raise
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows])
        ids = torch.from_numpy(self.ids[rows])
        if self.pin:
            views, ids = tuple(map(page_locked, views)), page_locked(ids)
            labels = None if labels is None else page_locked(labels)
        return Batch(step=step, epoch=epoch, views=views, ids=ids, labels=labels, sizes=self.sizes)
