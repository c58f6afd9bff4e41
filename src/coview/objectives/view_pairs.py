"""One view's rows against another's: what the losses with negatives from one view only share.

For two views u and v, anchors u_i meet candidates v_j, with the positive v_i and the negatives v_j,
j != i. Every ordered pair of views takes part, so both directions count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from coview.core.errors import UnknownName
from coview.core.ranks import Ranks
from coview.objectives.gathered import Gathered, share_of_mean
from coview.objectives.rows import check_two_views
from coview.objectives.tiles import Rectangles, refuse_second_derivative, tile_size

Mining = Literal["semi-hard"] | None
Reduction = Literal["mean", "sum"]

# Cosines of equal rows differ by the rounding of their sums: closer ones are ties.
TIE_ROUNDINGS = 16


class Penalty(Protocol):
    """An increasing function of one number, zero at -inf, applied elementwise."""

    def value(self, numbers: Tensor) -> Tensor: ...

    def slope(self, numbers: Tensor) -> Tensor:
        """The derivative of ``value``; ``numbers`` may be overwritten."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ViewPair:
    """Unit rows u [b, D] of this rank's images in one view, v [B, D] of all images in another."""

    anchors: Tensor
    candidates: Tensor
    local_slice: slice

    @property
    def positives(self) -> Tensor:
        """u_i . v_i [b]."""
        return (self.anchors * self.candidates[self.local_slice]).sum(1)

    @property
    def num_negatives(self) -> int:
        return len(self.candidates) - 1

    @property
    def own(self) -> Tensor:
        return torch.arange(
            self.local_slice.start, self.local_slice.stop, device=self.anchors.device
        )

    def over_negatives(self, penalty: Penalty, shift: Tensor, reduction: Reduction) -> Tensor:
        """mean (or sum) over j != i of penalty(u_i . v_j + shift_i) [b], 0 without any j.

        Memory O((b + B) D + tile^2).
        """
        total: Tensor = _SumOverNegatives.apply(
            self.anchors, self.candidates, shift, self.own, penalty, tile_size(self.anchors)
        )
        return total / max(self.num_negatives, 1) if reduction == "mean" else total

    def semi_hard(self, margin: float | None) -> tuple[Tensor, Tensor]:
        """The largest u_i . v_j, j != i, below u_i . v_i and, with a margin, within it.

        -> that cosine [b], differentiable, and whether there is such a j, bool [b]. Of equally
        near ones the first; one that equals the positive but for rounding is not below it.
        """
        with torch.no_grad():
            place, found = self._search(margin)
        return (self.anchors * self.candidates[place]).sum(1), found

    def _search(self, margin: float | None) -> tuple[Tensor, Tensor]:
        tie = TIE_ROUNDINGS * torch.finfo(self.anchors.dtype).eps
        top = self.positives - tie
        bottom = torch.full_like(top, -torch.inf) if margin is None else self.positives - margin
        best, place = torch.full_like(top, -torch.inf), torch.zeros_like(self.own)
        for a, c, tile in Rectangles(
            self.anchors, self.candidates, 1.0, self.own, tile_size(self.anchors)
        ):
            chosen = (tile < top[a, None]) & (tile > bottom[a, None])
            value, column = tile.masked_fill_(~chosen, -torch.inf).max(1)
            better = value > best[a]
            best[a] = value.where(better, best[a])
            place[a] = (column + c.start).where(better, place[a])
        return place, best > -torch.inf


def mean_over_view_pairs(
    views: Sequence[Tensor], ranks: Ranks, name: str, loss: Callable[[ViewPair], Tensor]
) -> Tensor:
    """The mean of ``loss``, a number for each anchor, over the anchors of all ordered pairs."""
    check_two_views(views, name)
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        width = batch.anchors.shape[1]
        anchors = batch.anchors.view(batch.views, -1, width)
        candidates = batch.candidates.view(batch.views, -1, width)
        per_anchor = [
            loss(ViewPair(anchors[one], candidates[other], batch.local_slice))
            for one, other in permutations(range(batch.views), 2)
        ]
        return share_of_mean(torch.cat(per_anchor), len(per_anchor) * batch.images, ranks)


def check_choices(mining: Mining, reduction: Reduction) -> None:
    """Raises UnknownName for a way of mining or of reducing that does not exist."""
    if mining not in (None, "semi-hard"):
        raise UnknownName("way of mining negatives", str(mining), ("semi-hard", "None"))
    if reduction not in ("mean", "sum"):
        raise UnknownName("reduction over negatives", str(reduction), ("mean", "sum"))


class _SumOverNegatives(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        shift: Tensor,
        own: Tensor,
        penalty: Penalty,
        size: int,
    ) -> Tensor:
        ctx.save_for_backward(anchors, candidates, shift, own)
        ctx.setting = (penalty, size)
        total = torch.zeros_like(shift)
        for a, _, tile in Rectangles(anchors, candidates, 1.0, own, size):
            total[a] += penalty.value(tile.add_(shift[a, None])).sum(1)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        refuse_second_derivative()
        anchors, candidates, shift, own = ctx.saved_tensors
        penalty, size = ctx.setting
        to_anchors, to_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        to_shift = torch.zeros_like(shift)
        for a, c, tile in Rectangles(anchors, candidates, 1.0, own, size):
            slopes = penalty.slope(tile.add_(shift[a, None])).mul_(upstream[a, None])
            to_anchors[a].addmm_(slopes, candidates[c])
            to_candidates[c].addmm_(slopes.T, anchors[a])
            to_shift[a] += slopes.sum(1)
        return to_anchors, to_candidates, to_shift, None, None, None
