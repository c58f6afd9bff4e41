"""The processes of a run and the collective operations between them.

``SINGLE_PROCESS`` is the process of an ordinary run. With it every call returns its argument, so
the same code runs in one process and in many.

The convention of all losses: rank r returns a number L_r whose mean over the ranks is the loss of
the whole batch. The backward of ``gather`` and ``all_reduce_sum`` sums the gradients that all ranks
computed for a row. The mean over the ranks of the parameters' gradients is then the gradient of the
whole batch's loss, as in DistributedDataParallel.

Every call is collective, and so is the backward of ``gather`` and ``all_reduce_sum``: all ranks
must make the same calls in the same order, otherwise they deadlock. A rank without rows takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


def _renamed(name: str, before: str) -> Callable[..., Any]:
    """A function of torch.distributed that torch 2.14 renamed; the old name warns since then."""
    function: Callable[..., Any] = getattr(dist, name, None) or getattr(dist, before)
    return function


_all_gather = _renamed("all_gather_single", "all_gather_into_tensor")
_reduce_scatter = _renamed("reduce_scatter_single", "reduce_scatter_tensor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process's ``rank`` among ``world``; ``group`` None is torch's default process group."""

    rank: int = 0
    world: int = 1
    group: Any = None

    @classmethod
    def of(cls, group: Any = None) -> Ranks:
        """The ranks of torch's initialized process group. Raises ValueError where there is none."""
        return cls(rank=dist.get_rank(group), world=dist.get_world_size(group), group=group)

    @property
    def is_single(self) -> bool:
        """Whether this is the only process."""
        return self.world == 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that prints and writes files."""
        return self.rank == 0

    def sizes(self, count: int) -> tuple[int, ...]:
        """The ``count`` of every rank, in the order of ranks."""
        if self.is_single:
            return (count,)
        counts = self._integers([0] * self.world)
        _all_gather(counts, self._integers([count]), group=self.group)
        return tuple(counts.tolist())

    def gather(self, rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """The rows of all ranks, concatenated in the order of ranks. Differentiable.

        Shapes: [b, ...] -> [B, ...], B the sum of the ranks' b, which may differ. ``sizes`` are
        those b; None gathers them first. The gradient of a row is summed over all ranks (a
        reduce-scatter).
        """
        if self.is_single:
            return rows
        sizes = self.sizes(len(rows)) if sizes is None else tuple(sizes)
        gathered: Tensor = _AllGather.apply(rows, self, sizes)
        return gathered

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks of tensors of one shape, the same bits on all. Differentiable.

        The gradient is summed over all ranks as well.
        """
        if self.is_single:
            return values
        summed: Tensor = _AllReduceSum.apply(values, self)
        return summed

    def share(self, count: int) -> float:
        """world * count / (sum of all counts): 1 where all counts are equal.

        A mean over ``count`` local rows times this number has, averaged over the ranks, the value
        of the mean over all rows.
        """
        return 1.0 if self.is_single else self.world * count / sum(self.sizes(count))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks of floating tensors of one shape. Differentiable."""
        return values if self.is_single else self.all_reduce_sum(values) / self.world

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` holds on at least one rank."""
        return flag if self.is_single else any(self.sizes(int(flag)))

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` holds on every rank."""
        return flag if self.is_single else all(self.sizes(int(flag)))

    def any_each(self, flags: Sequence[bool]) -> list[bool]:
        """For each of the ``flags``, whether it holds on at least one rank."""
        if self.is_single:
            return list(flags)
        integers = self._integers([int(flag) for flag in flags])
        dist.all_reduce(integers, op=dist.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in integers.tolist()]

    def gather_strings(self, text: str) -> tuple[str, ...]:
        """The ``text`` of every rank, in the order of ranks."""
        if self.is_single:
            return (text,)
        letters = self._integers(list(text.encode()))
        sizes = self.sizes(len(letters))
        parts = torch.split(self.gather(letters, sizes), list(sizes))
        return tuple(bytes(part.tolist()).decode() for part in parts)

    def main_first(self, action: Callable[[], T]) -> T:
        """The result of ``action`` on this rank. Rank 0 runs first so that the others find its
        cache."""
        if self.is_single:
            return action()
        if not self.is_main:
            self.barrier()
            return action()
        result = action()
        self.barrier()
        return result

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sizes(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # a copied network belongs to the same processes

    def _integers(self, values: list[int]) -> Tensor:
        """A tensor for a collective operation: on the CPU where the group has a CPU backend.

        The host then does not wait for the device.
        """
        group: Any = self.group or dist.group.WORLD
        on_cpu = torch.device("cpu") in group._device_types
        return torch.tensor(values, dtype=torch.int64, device="cpu" if on_cpu else "cuda")


SINGLE_PROCESS = Ranks()


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, sizes: tuple[int, ...]) -> Tensor:
        ctx.setting = (ranks, sizes)
        most = max(sizes)
        gathered = rows.new_empty((len(sizes) * most, *rows.shape[1:]))
        if gathered.numel() == 0:
            return gathered
        _all_gather(gathered, padded(rows, most), group=ranks.group)
        if len(set(sizes)) == 1:
            return gathered
        parts = torch.split(gathered, most)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable  # a second derivative would lack the terms of the other ranks
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        ranks, sizes = ctx.setting
        most, own = max(sizes), sizes[ranks.rank]
        mine = upstream.new_empty((most, *upstream.shape[1:]))
        if upstream.numel() > 0:
            whole = torch.cat([padded(part, most) for part in torch.split(upstream, list(sizes))])
            _reduce_scatter(mine, whole, group=ranks.group)
        return mine[:own], None, None


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return summed(values, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return summed(upstream, ctx.ranks), None


def summed(values: Tensor, ranks: Ranks) -> Tensor:
    """A new tensor: the sum over the ranks, element by element in contiguous order."""
    result = values.clone(memory_format=torch.contiguous_format)
    if result.numel() > 0:
        dist.all_reduce(result, group=ranks.group)
    return result


def padded(rows: Tensor, count: int) -> Tensor:
    """``rows`` as a contiguous tensor, padded with zero rows to ``count``."""
    if len(rows) == count:
        return rows.contiguous()
    result = rows.new_zeros((count, *rows.shape[1:]))
    result[: len(rows)] = rows
    return result
