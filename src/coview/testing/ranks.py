"""Several processes in one: a thread for each rank, for checks of what processes share."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from coview.core.ranks import Ranks

T = TypeVar("T")


class _OtherCalls(AssertionError):
    """A rank waits for one that makes no such call."""


class Exchange:
    """What ``world`` threads give each other: one round for each collective call."""

    def __init__(self, world: int) -> None:
        self.world = world
        self._rounds: dict[int, dict[int, Any]] = defaultdict(dict)
        self._turns = [0] * world
        self._ended: set[int] = set()
        self._changed = threading.Condition()

    def swap(self, rank: int, call: str, value: Any) -> list[Any]:
        """The ``value`` of every rank, in the order of ranks. All must make the same ``call``."""
        with self._changed:
            turn = self._turns[rank]
            self._turns[rank] += 1
            given = self._rounds[turn]
            given[rank] = (call, value)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: len(given) == self.world or bool(self._ended - given.keys())
            )
            calls = [name for name, _ in given.values()]
            if len(given) < self.world or len(set(calls)) > 1:
                raise _OtherCalls(
                    f"not every rank makes the same calls in the same order: call {turn + 1} of "
                    f"rank {rank} is {call}"
                )
            return [given[each][1] for each in range(self.world)]

    def end(self, rank: int) -> None:
        """``rank`` makes no further call; those that wait for it fail."""
        with self._changed:
            self._ended.add(rank)
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRanks(Ranks):
    """One of several threads in the place of processes; collective calls as those of Ranks."""

    exchange: Exchange

    def sizes(self, count: int) -> tuple[int, ...]:
        return tuple(self.exchange.swap(self.rank, "sizes", count))

    def gather(self, rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(values, self)
        return summed

    def any_each(self, flags: Sequence[bool]) -> list[bool]:
        everyone = self.exchange.swap(self.rank, "any_each", list(flags))
        return [any(each) for each in zip(*everyone, strict=True)]

    def _integers(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: ThreadRanks) -> Tensor:
        parts = ranks.exchange.swap(ranks.rank, "gather", rows)
        ctx.setting = (ranks, [len(part) for part in parts])
        return torch.cat(parts)

    @staticmethod
    @once_differentiable  # as the processes' own: a second derivative would lack terms
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        ranks, sizes = ctx.setting
        everyone = ranks.exchange.swap(ranks.rank, "gradient of gather", upstream)
        return torch.split(torch.stack(everyone).sum(0), sizes)[ranks.rank], None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: ThreadRanks) -> Tensor:
        ctx.ranks = ranks
        return torch.stack(ranks.exchange.swap(ranks.rank, "all_reduce_sum", values)).sum(0)

    @staticmethod
    @once_differentiable  # as the processes' own: a second derivative would lack terms
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        ranks = ctx.ranks
        everyone = ranks.exchange.swap(ranks.rank, "gradient of all_reduce_sum", upstream)
        return torch.stack(everyone).sum(0), None


def thread_ranks(world: int) -> tuple[ThreadRanks, ...]:
    """Ranks for :func:`on_each_rank`, of one group."""
    exchange = Exchange(world)
    return tuple(ThreadRanks(rank=rank, world=world, exchange=exchange) for rank in range(world))


def on_each_rank(group: Sequence[ThreadRanks], work: Callable[[Ranks], T]) -> list[T]:
    """What ``work`` returns on each rank of ``group``, in a thread for each of them.

    Build networks before: torch's generator is one for all threads. Direct calls of
    torch.distributed do not work here. Raises what a rank has raised, and AssertionError where the
    ranks make different collective calls.

    >>> on_each_rank(thread_ranks(2), lambda ranks: ranks.gather(torch.ones(1)).tolist())
    [[1.0, 1.0], [1.0, 1.0]]
    """
    results: dict[int, T] = {}
    errors: list[Exception] = []

    def run(ranks: ThreadRanks) -> None:
        try:
            results[ranks.rank] = work(ranks)
        except Exception as error:
            errors.append(error)
        finally:
            ranks.exchange.end(ranks.rank)

    threads = [threading.Thread(target=run, args=(ranks,), daemon=True) for ranks in group]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:  # what a rank says of another that has gone is no cause
        raise min(errors, key=lambda error: isinstance(error, _OtherCalls))
    return [results[ranks.rank] for ranks in group]
