"""The decoupled contrastive loss: NT-Xent without the positive in its denominator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import Gathered
from coview.objectives.rows import check_two_views
from coview.objectives.temperature import Temperature, check_temperature
from coview.objectives.tiles import PairLogWeights


def decoupled_nt_xent(
    views: Sequence[Tensor], *, temperature: Temperature, ranks: Ranks = SINGLE_PROCESS
) -> Tensor:
    """DCL: the mean over all rows i, with p the other view and N(i) the rows of other images, of

        l_i = -z_i . z_p / tau + log sum_{n in N(i)} exp(z_i . z_n / tau)

    With more than two views z_p is averaged over the other views, all of which leave the
    denominator. A row without negatives (a batch of one image) gives 0 with zero gradient.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64), which may be negative. Equal embeddings give ln(V B - V).
    Memory O(V B D). ``ranks`` as in ``nt_xent``. Raises InvalidValue.

    Source: Yeh et al., "Decoupled contrastive learning", ECCV 2022, the loss L_DC.
    """
    check_temperature(temperature)
    check_two_views(views, "The decoupled loss")
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        attraction = (batch.anchors * batch.other_views()).sum(1) / temperature
        repulsion = batch.log_partition(temperature, _of_other_images(batch))
        return batch.mean((repulsion - attraction).where(repulsion != -torch.inf, 0))


def _of_other_images(batch: Gathered) -> PairLogWeights:
    """0 between rows of different images, -inf between rows of one."""
    mine = batch.anchor_images()
    everyones = torch.arange(batch.images, device=mine.device).repeat(batch.views)
    zero = batch.anchors.new_zeros(())

    def log_weights(anchors: slice, keys: slice) -> Tensor:
        return zero.where(mine[anchors, None] != everyones[keys], -torch.inf)

    return log_weights
