"""NT-Xent, the loss of SimCLR; its decoupled form; and the range of losses of this kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import Gathered
from coview.objectives.inputs import Temperature, check_two_views, checked_temperature
from coview.objectives.log_partition import PairLogWeights

Negatives = Literal["all views", "other views"]


def nt_xent(
    views: Sequence[Tensor],
    *,
    temperature: Temperature,
    normalize: bool = True,
    negatives: Negatives = "all views",
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """NT-Xent: the mean over all rows i, with p the other view of the same image, of

        l_i = -log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    With more than two views l_i is averaged over the other views p, which stay in the denominator.
    ``normalize`` False leaves the rows at their lengths, so that z_i . z_k is no cosine (the lower
    rows of table 5, at temperatures of 10 and 100). ``negatives`` "other views": k are the rows of
    other views than that of i, as in the comparison of losses (table 4).

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64). Equal embeddings give ln(V B - 1) at every temperature, and
    ln((V - 1) B) with the negatives of other views.
    The mean is unscaled: the authors' code sums its two halves and reports twice this value.
    An image that occurs twice in the batch is a negative of itself; pass its id to ``sup_con`` as
    label to make it a positive. Memory O(V B D). Raises InvalidValue,
    UnknownName.

    With ``ranks`` the views are this rank's images and the candidates those of all ranks; the mean
    of the ranks' values is the loss of the whole batch.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, equation 1 and algorithm 1; appendix B.10 for the negatives of one view.

    >>> import torch
    >>> z = torch.eye(4)  # 4 images whose embeddings are orthogonal
    >>> nt_xent([z, z], temperature=0.5)  # -log(e^2 / (e^2 + 6))
    tensor(0.5944)
    """
    temperature = checked_temperature(temperature)
    check_two_views(views, "NT-Xent")
    if negatives not in ("all views", "other views"):
        raise UnknownName("`negatives`", str(negatives), ("all views", "other views"))
    batch = Gathered.of(views, ranks, normalize=normalize)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        attraction = (batch.anchors * batch.other_views()).sum(1) / temperature
        candidates = _other_views(batch) if negatives == "other views" else None
        return batch.mean(batch.log_partition(temperature, candidates) - attraction)


def decoupled_nt_xent(
    views: Sequence[Tensor], *, temperature: Temperature, ranks: Ranks = SINGLE_PROCESS
) -> Tensor:
    """DCL: the mean over all rows i, with p the other view and N(i) the rows of other images, of

        l_i = -z_i . z_p / tau + log sum_{n in N(i)} exp(z_i . z_n / tau)

    With more than two views z_p is averaged over the other views, which all leave the denominator.
    A row without negatives (a batch of one image) gives 0 with zero gradient.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64), which may be negative. Equal embeddings give ln(V B - V).
    Memory O(V B D). ``ranks`` as in ``nt_xent``. Raises InvalidValue.

    Source: Yeh et al., "Decoupled contrastive learning", ECCV 2022, the loss L_DC.

    >>> import torch
    >>> z = torch.eye(4)
    >>> decoupled_nt_xent([z, z], temperature=0.5)  # -2 + log(6)
    tensor(-0.2082)
    """
    temperature = checked_temperature(temperature)
    check_two_views(views, "The decoupled loss")
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        attraction = (batch.anchors * batch.other_views()).sum(1) / temperature
        repulsion = batch.log_partition(temperature, _other_images(batch))
        return batch.mean((repulsion - attraction).where(repulsion != -torch.inf, 0))


def _other_images(batch: Gathered) -> PairLogWeights:
    """0 between rows of different images, -inf between rows of one image."""
    anchor_images = batch.anchor_images()
    candidate_images = torch.arange(batch.images, device=anchor_images.device).repeat(batch.views)
    zero = batch.anchors.new_zeros(())

    def log_weights(anchors: slice, keys: slice) -> Tensor:
        return zero.where(anchor_images[anchors, None] != candidate_images[keys], -torch.inf)

    return log_weights


def _other_views(batch: Gathered) -> PairLogWeights:
    """0 between rows of different views, -inf between rows of one view."""
    anchor_views, candidate_views = batch.anchor_views(), batch.candidate_views()
    zero = batch.anchors.new_zeros(())

    def log_weights(anchors: slice, keys: slice) -> Tensor:
        return zero.where(anchor_views[anchors, None] != candidate_views[keys], -torch.inf)

    return log_weights


def chance_level(rows: float) -> float:
    """The NT-Xent or SupCon loss of equal embeddings: ln(rows - 1), at every temperature.

    ``rows`` = views * images of one batch, at least 2. Raises InvalidValue below.

    >>> round(chance_level(512), 4)  # 256 images in 2 views
    6.2364
    """
    if rows < 2:
        raise InvalidValue(f"`rows` is {rows}; a contrastive batch has at least 2 rows.")
    return math.log(rows - 1)


def estimated_lower_bound(
    rows: float, width: int, temperature: float, *, positives: float = 1
) -> float:
    """An estimate of the lowest NT-Xent or SupCon loss: positives equal, other rows random.

    ln(P + N exp(-1/tau + 1/(2 D tau^2))) for P ``positives`` and N = rows - 1 - P others of each
    row, D = width. The cosine of random unit rows has variance 1/D; the mean of its exponential is
    taken to second order. Never above ``chance_level``. Raises InvalidValue for fewer than 2 rows.

    >>> round(estimated_lower_bound(512, 128, 0.5), 4)
    4.2642
    """
    chance_level(rows)
    exponent = -1 / temperature + 1 / (2 * width * temperature**2)
    return math.log(positives + (rows - 1 - positives) * math.exp(min(exponent, 0.0)))
