"""The negative cosine similarity of SimSiam and BYOL."""

from __future__ import annotations

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.rows import check_rows, normalized, working_type


def negative_cosine(prediction: Tensor, target: Tensor, *, ranks: Ranks = SINGLE_PROCESS) -> Tensor:
    """The mean over all rows of -cos(p_i, t_i), between -1 and 1.

    Nothing is detached here: where the target is not to learn, which is what keeps SimSiam and BYOL
    from collapsing, give ``target.detach()``. One direction only. SimSiam averages the two; BYOL's
    ||p - t||^2 of unit rows is 2 + 2 times this, and it sums the two.

    Shapes: prediction and target [B, D], any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64). A row of zeros gives 0. With ``ranks`` the rows are this rank's;
    the mean of the ranks' values is the loss of the whole batch, also for unequal B.
    Raises InvalidValue.

    Source: Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, equation 1.
    """
    check_rows(prediction, "prediction", (None, None))
    check_rows(target, "target", (len(prediction), prediction.shape[1]))
    if prediction.shape[1] == 0 or (len(prediction) == 0 and ranks.is_single):
        raise InvalidValue(
            f"The prediction has shape {tuple(prediction.shape)}; it must not be empty."
        )
    kind = working_type(prediction, target)
    one, other = normalized(prediction.to(kind)), normalized(target.to(kind))
    count = sum(ranks.sizes(len(one)))
    with torch.autocast(one.device.type, enabled=False):
        return share_of_mean(-(one * other).sum(1), count, ranks)
