"""The negative cosine similarity of SimSiam and BYOL."""

from __future__ import annotations

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.inputs import check_rows, normalize_rows, working_dtype


def negative_cosine(prediction: Tensor, target: Tensor, *, ranks: Ranks = SINGLE_PROCESS) -> Tensor:
    """The mean over all rows of -cos(p_i, t_i), between -1 and 1.

    Nothing is detached here. SimSiam and BYOL stop the gradient of the target, which keeps them
    from collapsing: pass ``target.detach()``. One direction only. SimSiam averages the two; BYOL's
    ||p - t||^2 of unit rows is 2 + 2 times this, and it sums the two.

    Shapes: prediction and target [B, D], any floating type; rows are normalized here -> scalar in
    float32 (float64 for float64). A row of zeros gives 0. With ``ranks`` the rows are this rank's;
    the mean of the ranks' values is the loss of the whole batch, also for unequal B.
    Raises InvalidValue.

    Source: Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, equation 1.

    >>> import torch
    >>> prediction, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2)
    >>> negative_cosine(prediction, target)
    tensor(-1.)
    """
    check_rows(prediction, "prediction", (None, None))
    check_rows(target, "target", (len(prediction), prediction.shape[1]))
    if prediction.shape[1] == 0 or (len(prediction) == 0 and ranks.is_single):
        raise InvalidValue(
            f"`prediction` has shape {tuple(prediction.shape)}; it must not be empty."
        )
    dtype = working_dtype(prediction, target)
    p, t = normalize_rows(prediction.to(dtype)), normalize_rows(target.to(dtype))
    count = sum(ranks.sizes(len(p)))
    with torch.autocast(p.device.type, enabled=False):
        return share_of_mean(-(p * t).sum(1), count, ranks)
