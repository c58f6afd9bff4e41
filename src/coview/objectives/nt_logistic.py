"""The logistic loss that SimCLR compares with NT-Xent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.inputs import Temperature, check_temperature
from coview.objectives.view_pairs import (
    Mining,
    Reduction,
    ViewPair,
    check_choices,
    mean_over_view_pairs,
)


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
    check_temperature(temperature)
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


class _Logistic:
    """log(1 + exp(s)), with derivative sigma(s)."""

    def value(self, numbers: Tensor) -> Tensor:
        # Beyond the threshold softplus(x) is x; its default of 20 would lose 2e-9.
        return F.softplus(numbers, threshold=40)

    def derivative(self, numbers: Tensor) -> Tensor:
        return numbers.sigmoid_()
