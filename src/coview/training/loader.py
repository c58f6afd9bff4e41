"""Which images each step sees, rendered ahead in background threads."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.rng import Stream, permutation
from coview.training.schedules import steps_per_epoch

Rows = npt.NDArray[np.int64]
Render = Callable[[Rows, Rows, int], tuple[Tensor, ...]]

ROWS_NAMED = 8  # of a batch that failed; all of them would hide the message


class Order(Protocol):
    """Which rows each epoch visits, batch after batch."""

    batch_size: int
    steps_per_epoch: int

    def rows(self, epoch: int) -> Rows:
        """The rows of an epoch, int64 [steps_per_epoch x batch_size] at least."""
        ...


class RandomSampler:
    """Every epoch a permutation keyed by (seed, epoch, id), whose last short batch is dropped.

    Raises InvalidValue for a batch that is larger than the data.
    """

    def __init__(self, ids: Rows, *, batch_size: int, seed: int) -> None:
        self.ids, self.batch_size, self.seed = ids, batch_size, seed
        self.steps_per_epoch = steps_per_epoch(len(ids), batch_size)

    def rows(self, epoch: int) -> Rows:
        return permutation(self.seed, Stream.ORDER, self.ids, draw_index=epoch)


def shares(count: int, world: int) -> tuple[int, ...]:
    """How many of ``count`` images each rank has: count // world, the first ones 1 more.

    Raises InvalidValue where a rank would have none.
    """
    if count < world:
        raise InvalidValue(
            f"A batch of {count} images cannot be shared by {world} processes; "
            f"give a batch of at least {world}, or fewer processes."
        )
    return tuple(count // world + (rank < count % world) for rank in range(world))


class BatchLoader:
    """The batches of steps ``start_step`` .. ``total_steps`` - 1, in keyed order.

    ``steps_per_epoch`` counts the steps in which as many images are seen as there are. An epoch of
    ``order`` may be another: step s is its batch s % S of epoch s // S, for its S steps. ``order``
    is a :class:`KeyedOrder` where None. So the position in the data is the step and nothing else,
    whatever the number of workers and of processes.

    Of the images of a step each of ``ranks`` renders and gets its own consecutive part (see
    :func:`shares`); the parts together, in the order of ranks, are the batch of one process.
    ``batch_size`` is that of all ranks together.

    ``render(rows, ids, epoch)`` gives the views of the images in those rows, V x [B, 3, H, W]; with
    workers it is called from that many threads at once. At most ``workers`` + 1 batches wait; with
    0 workers each is rendered when it is asked for. ``pin`` copies them to page-locked memory, from
    which a CUDA device reads while the host goes on.

    ids int64 [N]; labels int64 [N] with -1 where unknown, or None. Raises InvalidValue.
    """

    def __init__(
        self,
        ids: Rows,
        labels: Rows | None,
        render: Render,
        *,
        batch_size: int,
        seed: int,
        total_steps: int,
        start_step: int = 0,
        workers: int = 0,
        pin: bool = False,
        ranks: Ranks = SINGLE_PROCESS,
        order: Order | None = None,
    ) -> None:
        if workers < 0:
            raise InvalidValue(f"--workers is {workers}; expected 0 or more.")
        if labels is not None and len(labels) != len(ids):
            raise InvalidValue(f"There are {len(labels)} labels for {len(ids)} images.")
        self.ids, self.labels, self.render = ids, labels, render
        self.order = order or RandomSampler(ids, batch_size=batch_size, seed=seed)
        if self.order.batch_size != batch_size:
            raise InvalidValue(
                f"The order of images is made of batches of {self.order.batch_size}, "
                f"but the batch is {batch_size}; give both the same."
            )
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = steps_per_epoch(len(ids), batch_size)
        self.sizes = () if ranks.is_single else shares(batch_size, ranks.world)
        ends = (0, *accumulate(self.sizes or (batch_size,)))
        self._own = slice(ends[ranks.rank], ends[ranks.rank + 1])
        self.total_steps, self.start_step = total_steps, start_step
        self.workers, self.pin = workers, pin
        self.seconds_waited = 0.0
        self._epoch: tuple[int, Rows] = (-1, ids[:0])

    def __iter__(self) -> Generator[Batch, None, None]:
        """The batches in order. Closing the iterator stops the threads.

        An error of ``render`` comes out at its step, with a note that names the rows.
        """
        batches = self._inline() if self.workers == 0 else self._ahead()
        with contextlib.closing(batches):
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                self.seconds_waited += time.perf_counter() - asked
                if batch is None:
                    return
                yield batch

    def _inline(self) -> Generator[Batch, None, None]:
        for step in range(self.start_step, self.total_steps):
            yield self._batch(step, self.rows(step)[self._own])

    def _ahead(self) -> Generator[Batch, None, None]:
        steps = iter(range(self.start_step, self.total_steps))
        pool = ThreadPoolExecutor(self.workers, "coview-loader")
        try:
            waiting: deque[Future[Batch]] = deque()
            for step in islice(steps, self.workers + 1):
                waiting.append(pool.submit(self._batch, step, self.rows(step)[self._own]))
            while waiting:
                batch = waiting.popleft().result()
                for step in islice(steps, 1):
                    waiting.append(pool.submit(self._batch, step, self.rows(step)[self._own]))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def rows(self, step: int) -> Rows:
        """The rows of the images of a step on all ranks together, int64 [batch_size]."""
        epoch, place = divmod(step, self.order.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self.order.rows(epoch)
        return self._epoch[1][place * self.batch_size : (place + 1) * self.batch_size]

    def _batch(self, step: int, rows: Rows) -> Batch:
        epoch = step // self.order.steps_per_epoch
        try:
            views = self.render(rows, self.ids[rows], epoch)
        except Exception as error:
            named = ", ".join(map(str, rows[:ROWS_NAMED]))
            more = "" if len(rows) <= ROWS_NAMED else f" and {len(rows) - ROWS_NAMED} more"
            error.add_note(f"while rendering step {step} of epoch {epoch}: rows {named}{more}")
            raise
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows])
        ids = torch.from_numpy(self.ids[rows])
        if self.pin:
            views, ids = tuple(view.pin_memory() for view in views), ids.pin_memory()
            labels = None if labels is None else labels.pin_memory()
        return Batch(step=step, epoch=epoch, views=views, ids=ids, labels=labels, sizes=self.sizes)
