"""The normalised temperature-scaled cross-entropy loss of SimCLR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.objectives.log_partition import log_partition
from coview.objectives.rows import check_temperature, unit_rows


def nt_xent(views: Sequence[Tensor], *, temperature: float) -> Tensor:
    """NT-Xent: the mean over all rows i, with p the other view of the same image, of

        l_i = -log [ exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) ]

    With more than two views l_i is averaged over the other views p, which stay in the denominator.

    Shapes: views V x [B, D], V >= 2, any floating type; rows are normalised here -> scalar in
    float32 (float64 for float64). Equal embeddings give ln(V B - 1) at every temperature.
    The mean is unscaled: the authors' code sums its two halves and so reports twice this value.
    An image that occurs twice in the batch counts as a negative of itself; give its id to
    ``sup_con`` as label to make it a positive. Memory O(V B D). Raises InvalidValue.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations",
    ICML 2020, equation 1 and algorithm 1.
    """
    check_temperature(temperature)
    rows = unit_rows(views)
    if len(views) < 2:
        raise InvalidValue("NT-Xent compares views of one image; it needs at least two, got one.")
    with torch.autocast(rows.device.type, enabled=False):
        by_view = rows.view(len(views), -1, rows.shape[1])
        siblings = (by_view.sum(0) - by_view).flatten(0, 1) / (len(views) - 1)
        attraction = (rows * siblings).sum(1) / temperature
        per_row = log_partition(rows, temperature) - attraction
        return per_row.mean()
