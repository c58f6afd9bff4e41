"""The losses whose negatives come from the other view only: NT-Logistic and margin triplet.

For two views u and v, the anchor u_i has the positive v_i and the negatives v_j, j != i. Losses are
averaged over all ordered pairs of views, so over both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import Gathered, share_of_mean
from coview.objectives.inputs import Temperature, check_two_views, checked_temperature, real_number
from coview.objectives.log_partition import Tiles, refuse_second_derivative, tile_size

Mining = Literal["semi-hard"] | None
Reduction = Literal["mean", "sum"]

# Cosines of equal rows differ by the rounding of their sums: a smaller difference is a tie.
TIE_ROUNDINGS = 16


class _Hinge:
    """max(s, 0), with derivative 1 above 0. Both may overwrite their numbers."""

    def value(self, numbers: Tensor) -> Tensor:
        return numbers.relu_()

    def derivative(self, numbers: Tensor) -> Tensor:
        return numbers.gt_(0)


class _Logistic:
    """log(1 + exp(s)), with derivative sigma(s). Both may overwrite their numbers."""

    def value(self, numbers: Tensor) -> Tensor:
        # Beyond the threshold softplus(x) is x; its default of 20 would lose 2e-9.
        return F.softplus(numbers, threshold=40)

    def derivative(self, numbers: Tensor) -> Tensor:
        return numbers.sigmoid_()


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

    def reduce_negatives(
        self, penalty: _Hinge | _Logistic, shift: Tensor, reduction: Reduction
    ) -> Tensor:
        """mean (or sum) over j != i of penalty(u_i . v_j + shift_i) [b], 0 without negatives.

        Memory O((b + B) D + tile^2).
        """
        total: Tensor = _SumOverNegatives.apply(
            self.anchors, self.candidates, shift, self.own, penalty, tile_size(self.anchors)
        )
        return total / max(self.num_negatives, 1) if reduction == "mean" else total

    def semi_hard(self, margin: float | None) -> tuple[Tensor, Tensor]:
        """The largest u_i . v_j, j != i, below u_i . v_i and above u_i . v_i - margin.

        -> that cosine [b], differentiable, and whether there is such a j, bool [b]. Margin None
        means no lower bound. Of several equal cosines the first; a cosine that equals the positive
        up to rounding is not below it.
        """
        with torch.no_grad():
            index, exists = self._find_semi_hard(margin)
        return (self.anchors * self.candidates[index]).sum(1), exists

    def _find_semi_hard(self, margin: float | None) -> tuple[Tensor, Tensor]:
        tie = TIE_ROUNDINGS * torch.finfo(self.anchors.dtype).eps
        top = self.positives - tie
        bottom = torch.full_like(top, -torch.inf) if margin is None else self.positives - margin
        best, index = torch.full_like(top, -torch.inf), torch.zeros_like(self.own)
        for a, c, tile in Tiles(
            self.anchors, self.candidates, 1.0, self.own, tile_size(self.anchors)
        ):
            semi_hard = (tile < top[a, None]) & (tile > bottom[a, None])
            value, column = tile.masked_fill_(~semi_hard, -torch.inf).max(1)
            better = value > best[a]
            best[a] = value.where(better, best[a])
            index[a] = (column + c.start).where(better, index[a])
        return index, best > -torch.inf


def nt_logistic(
    views: Sequence[Tensor],
    *,
    temperature: Temperature,
    mining: Mining = None,
    reduction: Reduction = "mean",
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """NT-Logistic: the mean, over all anchors u_i of one view against another view v, of

        l_i = -log sigma(u_i . v_i / tau) - mean_{j != i} log sigma(-u_i . v_j / tau)

    over both directions, and over all ordered pairs of views where there are more than two.
    Negatives come from the other view only, as in the paper's comparison. The paper does not say
    three things, which are chosen here: ``reduction`` over an anchor's negatives is their mean (or
    "sum"); ``mining`` "semi-hard" keeps only the largest u_i . v_j below u_i . v_i, without a
    margin; an anchor without a semi-hard negative keeps its positive term and stays in the mean.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64). Equal embeddings give log(1 + e^(-1/tau)) + log(1 + e^(1/tau)),
    and the first term alone with mining. Memory O(V^2 B + V B D), and O(V^2 B D) with mining: the
    pairs of rows are visited in tiles, in both passes. ``ranks`` as in ``nt_xent``.
    Raises InvalidValue, UnknownName.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, table 2 and appendix B.10.

    >>> import torch
    >>> z = torch.eye(4)
    >>> nt_logistic([z, z], temperature=0.5)  # log(1 + e^-2) + log(2)
    tensor(0.8201)
    """
    temperature = checked_temperature(temperature)
    check_choices(mining, reduction)

    def per_anchor(pair: ViewPair) -> Tensor:
        # Anchors divided by tau, so that autograd computes the gradient of a learned tau too.
        scaled = replace(pair, anchors=pair.anchors / temperature)
        attraction = -F.logsigmoid(scaled.positives)
        if mining == "semi-hard":
            closest, exists = pair.semi_hard(margin=None)
            return attraction - F.logsigmoid(-closest / temperature).where(exists, 0)
        no_shift = torch.zeros_like(scaled.positives)
        return attraction + scaled.reduce_negatives(_Logistic(), no_shift, reduction)

    return mean_over_view_pairs(views, ranks, "NT-Logistic", per_anchor)


def margin_triplet(
    views: Sequence[Tensor],
    *,
    margin: float,
    mining: Mining = None,
    reduction: Reduction = "mean",
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """Margin triplet: the mean, over all anchors u_i of one view against another view v, of

        l_i = mean_{j != i} max(u_i . v_j - u_i . v_i + margin, 0)

    over both directions, and over all ordered pairs of views where there are more than two.
    Negatives come from the other view only, as in the paper's comparison. The paper does not say
    three things, which are chosen here: ``reduction`` over an anchor's negatives is their mean (or
    "sum"); ``mining`` "semi-hard" keeps only the largest u_i . v_j within
    u_i . v_i - margin < u_i . v_j < u_i . v_i; an anchor without a semi-hard negative gives 0 and
    stays in the mean.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here; margin >= 0,
    usually at most 1.6 -> scalar in float32 (float64 for float64). Equal embeddings give the
    margin, and 0 with mining. Memory as ``nt_logistic``; ``ranks`` as in ``nt_xent``.
    Raises InvalidValue, UnknownName.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, table 2 and appendix B.10.

    >>> import torch
    >>> z = torch.eye(4)
    >>> margin_triplet([z, z], margin=1.5)  # max(0 - 1 + 1.5, 0)
    tensor(0.5000)
    """
    margin = checked_margin(margin)
    check_choices(mining, reduction)

    def per_anchor(pair: ViewPair) -> Tensor:
        positives = pair.positives
        if mining == "semi-hard":
            closest, exists = pair.semi_hard(margin)
            # 0 times the positive, not 0, so that NaN in a row reaches the loss.
            return (closest - positives + margin).relu().where(exists, 0 * positives)
        return pair.reduce_negatives(_Hinge(), margin - positives, reduction)

    return mean_over_view_pairs(views, ranks, "The margin triplet loss", per_anchor)


def mean_over_view_pairs(
    views: Sequence[Tensor], ranks: Ranks, name: str, loss: Callable[[ViewPair], Tensor]
) -> Tensor:
    """The mean of ``loss``, one number for each anchor, over the anchors of all ordered pairs.

    ``name`` is the objective that messages name. Raises InvalidValue for fewer than two views.
    """
    check_two_views(views, name)
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        width = batch.anchors.shape[1]
        anchors = batch.anchors.view(batch.views, -1, width)
        candidates = batch.candidates.view(batch.views, -1, width)
        per_anchor = [
            loss(ViewPair(anchors[u], candidates[v], batch.local_slice))
            for u, v in permutations(range(batch.views), 2)
        ]
        return share_of_mean(torch.cat(per_anchor), len(per_anchor) * batch.images, ranks)


def checked_margin(margin: float) -> float:
    """The margin as Python's number. Raises InvalidValue unless it is finite and at least 0."""
    number = real_number(margin)
    if not 0 <= number < math.inf:
        raise InvalidValue(
            f"`margin` is {margin!r}; expected a finite number >= 0, such as 0.4 or 0.8."
        )
    return number


def check_choices(mining: Mining, reduction: Reduction) -> None:
    if mining not in (None, "semi-hard"):
        raise UnknownName("`mining` of negatives", str(mining), ("semi-hard", "None"))
    if reduction not in ("mean", "sum"):
        raise UnknownName("`reduction` over negatives", str(reduction), ("mean", "sum"))


class _SumOverNegatives(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, shift: Tensor, own: Tensor,
        penalty: _Hinge | _Logistic, size: int,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(anchors, candidates, shift, own)
        ctx.setting = (penalty, size)
        total = torch.zeros_like(shift)
        for a, _, tile in Tiles(anchors, candidates, 1.0, own, size):
            total[a] += penalty.value(tile.add_(shift[a, None])).sum(1)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        refuse_second_derivative()
        anchors, candidates, shift, own = ctx.saved_tensors
        penalty, size = ctx.setting
        to_anchors, to_candidates = torch.zeros_like(anchors), torch.zeros_like(candidates)
        to_shift = torch.zeros_like(shift)
        for a, c, tile in Tiles(anchors, candidates, 1.0, own, size):
            slopes = penalty.derivative(tile.add_(shift[a, None])).mul_(upstream[a, None])
            to_anchors[a].addmm_(slopes, candidates[c])
            to_candidates[c].addmm_(slopes.T, anchors[a])
            to_shift[a] += slopes.sum(1)
        return to_anchors, to_candidates, to_shift, None, None, None
