"""The normalized temperature-scaled cross-entropy loss of SimCLR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import Gathered
from coview.objectives.rows import check_two_views
from coview.objectives.temperature import Temperature, check_temperature


def nt_xent(
    views: Sequence[Tensor], *, temperature: Temperature, ranks: Ranks = SINGLE_PROCESS
) -> Tensor:
    """NT-Xent: the mean over all rows i, with p the other view of the same image, of

        l_i = -log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    With more than two views l_i is averaged over the other views p, which stay in the denominator.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64). Equal embeddings give ln(V B - 1) at every temperature.
    The mean is unscaled: the authors' code sums its two halves and so reports twice this value.
    An image that occurs twice in the batch counts as a negative of itself; give its id to
    ``sup_con`` as label to make it a positive. Memory O(V B D). Raises InvalidValue.

    With ``ranks`` the views are this rank's images and the candidates those of all ranks; the mean
    of the ranks' values is the loss of the whole batch.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, equation 1 and algorithm 1.
    """
    check_temperature(temperature)
    check_two_views(views, "NT-Xent")
    batch = Gathered.of(views, ranks)
    with torch.autocast(batch.anchors.device.type, enabled=False):
        attraction = (batch.anchors * batch.other_views()).sum(1) / temperature
        return batch.mean(batch.log_partition(temperature) - attraction)
