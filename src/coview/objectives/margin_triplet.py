"""The margin triplet loss that SimCLR compares with NT-Xent."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.view_pairs import (
    Mining,
    Reduction,
    ViewPair,
    check_choices,
    mean_over_view_pairs,
)


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
    if not (isinstance(margin, (int, float)) and 0 <= margin < math.inf):
        raise InvalidValue(
            f"`margin` is {margin!r}; expected a finite number >= 0, such as 0.4 or 0.8."
        )
    check_choices(mining, reduction)

    def per_anchor(pair: ViewPair) -> Tensor:
        positives = pair.positives
        if mining == "semi-hard":
            closest, exists = pair.semi_hard(margin)
            # 0 times the positive, not 0, so that NaN in a row reaches the loss.
            return (closest - positives + margin).relu().where(exists, 0 * positives)
        return pair.reduce_negatives(_Hinge(), margin - positives, reduction)

    return mean_over_view_pairs(views, ranks, "The margin triplet loss", per_anchor)


class _Hinge:
    """max(s, 0), with derivative 1 above 0."""

    def value(self, numbers: Tensor) -> Tensor:
        return numbers.relu_()

    def derivative(self, numbers: Tensor) -> Tensor:
        return numbers.gt_(0)
