"""The supervised contrastive loss, in both forms, also for soft positives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import Gathered
from coview.objectives.inputs import Temperature, checked_temperature
from coview.objectives.positives import (
    Positives,
    SameLabel,
    SharedLabels,
    Weighted,
    check_weights,
    checked_labels,
)


def sup_con(
    views: Sequence[Tensor],
    labels: Tensor | Sequence[int] | None = None,
    *,
    weights: Tensor | None = None,
    temperature: Temperature,
    form: Literal["out", "in"] = "out",
    positives_cap: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """SupCon: the mean, over all rows i that have positives P(i), of

        out:  l_i = -1/#P(i) sum_{p in P(i)} log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]
        in:   l_i = -log [ 1/#P(i) sum_{p in P(i)} exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    P(i) are all other rows with the label of i, including its own other views. An image labeled -1
    is a class of its own: its positives are its own other views. Rows without positives are left
    out of the mean but stay in the denominators; if no row has positives, the loss is 0 with zero
    gradient. ``positive_counts`` counts the positives.

    Images with several labels have marks [B, C] for labels, above 0 where image b has label c:
    images that share a label are positives of each other, and one without a mark is unlabeled.

    ``positives_cap`` >= 1 limits the positives of a row: all its own other views are kept, then
    rows of other images in the order of the batch, first views first. Positives that are not kept
    leave the numerator and the denominator.

    Instead of labels, ``weights`` w [B, B] >= 0 between images replace 1/#P(i) by
    w_ab / (sum over all other rows), where the diagonal w_aa is the weight of each other view of
    image a itself; no gradient reaches them. w_ab = [y_a = y_b] equals the labels y.

    Shapes: views V x [B, D], V >= 1, any floating type; rows are normalized here; labels integer
    [B] or marks [B, C], C >= 2 -> scalar in float32 (float64 for float64). The mean is unscaled:
    the authors' code reports tau times this, a widespread port tau / 0.07 times. "in" never exceeds
    "out" and trains worse (67.4 against 78.7 % in the paper). Memory O(V B D), plus O(B C) for
    marks, O(B^2) for weights. Raises InvalidValue, UnknownName.

    With ``ranks`` the views and labels are this rank's b images, the candidates those of all ranks,
    and ``weights`` are this rank's rows against all ranks' images [b, B]; the mean of the ranks'
    values is the loss of the whole batch.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equations 2 and 3; the
    cap from its supplement, table 5.

    >>> import torch
    >>> z = torch.eye(3)[[0, 0, 1, 2]]  # 4 images, the first two alike
    >>> sup_con([z, z], torch.tensor([5, 5, 6, -1]), temperature=0.5)
    tensor(0.9295)
    """  # noqa: E501
    temperature = checked_temperature(temperature)
    if form not in ("out", "in"):
        raise UnknownName("form of the SupCon loss", str(form), ("out", "in"))
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        positives = _positives(labels, weights, positives_cap, batch)
        if form == "out":
            average = positives.average(batch.candidates)
            attraction = (batch.anchors * average).sum(1) / temperature
        else:
            attraction = batch.log_partition(temperature, positives.log_targets)
        repulsion = batch.log_partition(temperature, positives.log_candidates)
        return batch.masked_mean(repulsion - attraction, positives.has_positive)


def _positives(
    labels: Tensor | Sequence[int] | None, weights: Tensor | None, cap: int | None, batch: Gathered
) -> Positives:
    if (labels is None) == (weights is None):
        raise InvalidValue(
            "SupCon takes either `labels` or `weights`, not both; without either use nt_xent."
        )
    if cap is not None and weights is not None:
        raise InvalidValue("`positives_cap` counts positives by label; use it without `weights`.")
    check_cap(cap)
    local_images = batch.sizes[batch.ranks.rank]
    if weights is not None:
        check_weights(weights, local_images, batch.images)
        return Weighted(weights, batch)
    assert labels is not None
    labels = checked_labels(labels, local_images, batch.anchors.device)
    all_labels = batch.ranks.gather(labels, batch.sizes)
    if labels.ndim == 2 or cap is not None:
        return SharedLabels(all_labels, cap, batch)
    return SameLabel(all_labels, batch)


def check_cap(cap: int | None) -> None:
    """Raises InvalidValue unless it is None or an integer of 1 or more."""
    if cap is None:
        return
    if isinstance(cap, bool) or not isinstance(cap, int | np.integer) or cap < 1:
        raise InvalidValue(f"`positives_cap` is {cap!r}; expected an integer >= 1, or None.")
