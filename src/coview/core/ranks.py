"""The processes of a run: who this one is, and the few things that they tell each other.

``SINGLE_PROCESS`` is the one process of an ordinary run; with it every call gives back what it was given,
so that no caller asks whether it is alone.

The convention of all losses: rank r returns a number L_r whose mean over the ranks is the loss of
the whole batch. The backward of a gather, or of a total, sums over the ranks what they say of each
other's rows; the mean over the ranks of the parameters' gradients is then the gradient of the
whole batch's loss, which is what DistributedDataParallel takes as well.

Every call is collective, and so is the backward of ``gather`` and ``total``: all ranks make the
same calls in the same order, or they wait for each other for ever. A rank without rows takes part
as well.
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


def _called(name: str, before: str) -> Callable[..., Any]:
    """A function that torch 2.14 has renamed: before there is the old name only, now it warns."""
    found: Callable[..., Any] = getattr(dist, name, None) or getattr(dist, before)
    return found


_all_gather = _called("all_gather_single", "all_gather_into_tensor")
_reduce_scatter = _called("reduce_scatter_single", "reduce_scatter_tensor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """``world`` processes, of which this is number ``rank``; ``group`` None means all of them."""

    rank: int = 0
    world: int = 1
    group: Any = None

    @classmethod
    def of(cls, group: Any = None) -> Ranks:
        """The ranks of torch's initialized process group. Raises ValueError where there is none."""
        return cls(rank=dist.get_rank(group), world=dist.get_world_size(group), group=group)

    @property
    def is_single(self) -> bool:
        """Whether there is nobody to talk to."""
        return self.world == 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that prints and writes files."""
        return self.rank == 0

    def sizes(self, count: int) -> tuple[int, ...]:
        """The ``count`` that each rank gives, in the order of ranks."""
        if self.is_single:
            return (count,)
        counts = self._integers([0] * self.world)
        _all_gather(counts, self._integers([count]), group=self.group)
        return tuple(counts.tolist())

    def gather(self, rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """The rows of all ranks below each other, in the order of ranks. Differentiable.

        Shapes: [b, ...] -> [B, ...], B the sum of the ranks' b, which may differ. ``sizes`` are
        those b where they are known; otherwise the ranks tell each other. The gradient of a row is
        summed over all ranks (a reduce-scatter).
        """
        if self.is_single:
            return rows
        known = self.sizes(len(rows)) if sizes is None else tuple(sizes)
        gathered: Tensor = _Gather.apply(rows, self, known)
        return gathered

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks of a tensor of one shape. Differentiable.

        All ranks get the same bits. The gradient is summed over all ranks as well.
        """
        if self.is_single:
            return values
        summed: Tensor = _Total.apply(values, self)
        return summed

    def share(self, count: int) -> float:
        """world * count / total count: what a mean over ``count`` local rows is multiplied by, so
        that its mean over the ranks is the mean over all rows. 1 where all counts are equal."""
        return 1.0 if self.is_single else self.world * count / sum(self.sizes(count))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks of a floating tensor of one shape. Differentiable."""
        return values if self.is_single else self.total(values) / self.world

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` holds on at least one rank."""
        return flag if self.is_single else any(self.sizes(int(flag)))

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` holds on every rank."""
        return flag if self.is_single else all(self.sizes(int(flag)))

    def any_each(self, flags: Sequence[bool]) -> list[bool]:
        """For each of the ``flags``, as many on every rank, whether it holds on at least one."""
        if self.is_single:
            return list(flags)
        found = self._integers([int(flag) for flag in flags])
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in found.tolist()]

    def gather_strings(self, text: str) -> tuple[str, ...]:
        """The ``text`` that each rank gives, in the order of ranks."""
        if self.is_single:
            return (text,)
        letters = self._integers(list(text.encode()))
        sizes = self.sizes(len(letters))
        parts = torch.split(self.gather(letters, sizes), list(sizes))
        return tuple(bytes(part.tolist()).decode() for part in parts)

    def main_first(self, action: Callable[[], T]) -> T:
        """What ``action`` gives on this rank; rank 0 has ended it before the others begin it, for
        what may be left behind for them (files of a cache)."""
        if self.is_single:
            return action()
        if self.is_main:
            found = action()
            self.barrier()
            return found
        self.barrier()
        return action()

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sizes(0)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # a copy of a network talks to the same processes

    def _integers(self, values: list[int]) -> Tensor:
        """A tensor to be exchanged: on the CPU where the group speaks there.

        There the exchange does not make the host wait for the device.
        """
        group: Any = self.group or dist.group.WORLD
        on_cpu = torch.device("cpu") in group._device_types
        return torch.tensor(values, dtype=torch.int64, device="cpu" if on_cpu else "cuda")


SINGLE_PROCESS = Ranks()


class _Gather(torch.autograd.Function):
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
    @once_differentiable  # of the second derivative the other ranks would know nothing
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        ranks, sizes = ctx.setting
        most, own = max(sizes), sizes[ranks.rank]
        mine = upstream.new_empty((most, *upstream.shape[1:]))
        if upstream.numel() > 0:
            whole = torch.cat([padded(part, most) for part in torch.split(upstream, list(sizes))])
            _reduce_scatter(mine, whole, group=ranks.group)
        return mine[:own], None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return summed(values, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return summed(upstream, ctx.ranks), None


def summed(values: Tensor, ranks: Ranks) -> Tensor:
    """A new tensor with the sum over the ranks; whatever the layout, elements meet their like."""
    result = values.clone(memory_format=torch.contiguous_format)
    if result.numel() > 0:
        dist.all_reduce(result, group=ranks.group)
    return result


def padded(rows: Tensor, count: int) -> Tensor:
    """``rows`` in one piece of memory, with zeros below up to ``count``."""
    if len(rows) == count:
        return rows.contiguous()
    result = rows.new_zeros((count, *rows.shape[1:]))
    result[: len(rows)] = rows
    return result
