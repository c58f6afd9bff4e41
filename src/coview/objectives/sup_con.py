"""The supervised contrastive loss, in both forms, also for soft positives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.objectives.log_partition import log_partition
from coview.objectives.positives import (
    Positives,
    SameLabel,
    Weighted,
    check_labels,
    check_weights,
)
from coview.objectives.rows import check_temperature, unit_rows


def sup_con(
    views: Sequence[Tensor],
    labels: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    temperature: float,
    form: Literal["out", "in"] = "out",
) -> Tensor:
    """SupCon: the mean, over all rows i that have positives P(i), of

        out:  l_i = -1/#P(i) sum_{p in P(i)} log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]
        in:   l_i = -log [ 1/#P(i) sum_{p in P(i)} exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    P(i) are all other rows with the label of i, its own other views among them. An image labelled
    -1 joins as an instance: its positives are its own other views. Rows without positives are left
    out of the mean but stay in the denominators; without any row that has some, the loss is 0 with
    zero gradient. ``positive_counts`` tells how many there are.

    Instead of labels, ``weights`` w [B, B] >= 0 between images replace 1/#P(i) by
    w_ab / (sum over all other rows), where the diagonal w_aa weighs each other view of image a
    itself; no gradient reaches them. w_ab = [y_a = y_b] equals the labels y.

    Shapes: views V x [B, D], V >= 1, any floating type; rows are normalised here; labels integer
    [B] -> scalar in float32 (float64 for float64). The mean is unscaled: the authors' code reports
    tau times this, a widespread port tau / 0.07 times. "in" never exceeds "out" and trains worse
    (67.4 against 78.7 % in the paper). Memory O(V B D), plus O(B^2) for weights only.
    Raises InvalidValue, UnknownName.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equations 2 and 3.
    """  # noqa: E501
    check_temperature(temperature)
    if form not in ("out", "in"):
        raise UnknownName("form of the SupCon loss", str(form), ("out", "in"))
    rows = unit_rows(views)
    positives = _positives(labels, weights, len(views), len(views[0]), rows.dtype)
    with torch.autocast(rows.device.type, enabled=False):
        if form == "out":
            attraction = (rows * positives.average(rows)).sum(1) / temperature
        else:
            attraction = log_partition(rows, temperature, log_weights=positives.log_targets)
        return _mean_of(log_partition(rows, temperature) - attraction, positives.exist)


def _positives(
    labels: Tensor | None, weights: Tensor | None, views: int, images: int, dtype: torch.dtype
) -> Positives:
    if (labels is None) == (weights is None):
        raise InvalidValue(
            "SupCon takes either labels or weights, one of the two; without both use nt_xent."
        )
    if weights is not None:
        check_weights(weights, images)
        return Weighted(weights, views, dtype)
    assert labels is not None
    check_labels(labels, images)
    return SameLabel(labels, views, dtype)


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values; 0 where none is chosen."""
    return values.where(chosen, 0).sum() / chosen.sum().clamp_min(1)
