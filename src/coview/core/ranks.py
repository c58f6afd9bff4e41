"""The processes of a run: who this one is, and the few things that they tell each other.

``ALONE`` is the one process of an ordinary run; with it every call gives back what it was given,
so that no caller asks whether it is alone.

The convention of all losses: rank r returns a number L_r whose mean over the ranks is the loss of
the whole batch. A gather's backward sums over the ranks what they say of each other's rows; the
mean over the ranks of the parameters' gradients is then the gradient of the whole batch's loss,
which is what DistributedDataParallel takes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """``world`` processes, of which this is number ``rank``; ``group`` None means all of them."""

    rank: int = 0
    world: int = 1
    group: Any = None

    @classmethod
    def of(cls, group: Any = None) -> Ranks:
        """The ranks of torch's initialised process group. Raises ValueError where there is none."""
        return cls(rank=dist.get_rank(group), world=dist.get_world_size(group), group=group)

    @property
    def alone(self) -> bool:
        """Whether there is nobody to talk to."""
        return self.world == 1

    def sizes(self, count: int) -> tuple[int, ...]:
        """The ``count`` that each rank gives, in the order of ranks."""
        if self.alone:
            return (count,)
        device = torch.device("cuda") if self._fast() else torch.device("cpu")
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([count], device=device), group=self.group)
        return tuple(int(count) for count in counts)

    def gather(self, rows: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """The rows of all ranks below each other, in the order of ranks. Differentiable.

        Shapes: [b, ...] -> [B, ...], B the sum of the ranks' b, which may differ. ``sizes`` are
        those b where they are known; otherwise the ranks tell each other, which waits for the
        device. The gradient of a row is summed over all ranks (a reduce-scatter).
        """
        if self.alone:
            return rows
        known = self.sizes(len(rows)) if sizes is None else tuple(sizes)
        gathered: Tensor = _Gather.apply(rows, self, known)
        return gathered

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks of a tensor of one shape. Differentiable."""
        if self.alone:
            return values
        summed: Tensor = _Total.apply(values, self)
        return summed

    def share(self, count: int) -> float:
        """world * count / total count: what a mean over ``count`` local rows is multiplied by, so
        that its mean over the ranks is the mean over all rows. 1 where all counts are equal."""
        return 1.0 if self.alone else self.world * count / sum(self.sizes(count))

    def first(self, values: Tensor) -> Tensor:
        """Rank 0's tensor, on every rank; ``values`` is overwritten and returned."""
        if not self.alone:
            dist.broadcast(
                values,
                src=dist.get_global_rank(self.group, 0) if self.group else 0,
                group=self.group,
            )
        return values

    def _fast(self) -> bool:
        return dist.get_backend(self.group) == "nccl"


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, sizes: tuple[int, ...]) -> Tensor:
        ctx.setting = (ranks, sizes)
        most = max(sizes)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=ranks.group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        ranks, sizes = ctx.setting
        most, own = max(sizes), sizes[ranks.rank]
        padded = upstream.new_zeros((len(sizes), most, *upstream.shape[1:]))
        for rank, part in enumerate(upstream.split(sizes)):
            padded[rank, : len(part)] = part
        if ranks._fast():
            mine = torch.empty_like(padded[0])
            dist.reduce_scatter_tensor(mine, padded.flatten(0, 1), group=ranks.group)
        else:  # gloo has no reduce-scatter
            dist.all_reduce(padded, group=ranks.group)
            mine = padded[ranks.rank]
        return mine[:own], None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        summed = values.clone()
        dist.all_reduce(summed, group=ranks.group)
        return summed

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        summed = upstream.clone()
        dist.all_reduce(summed, group=ctx.ranks.group)
        return summed, None
