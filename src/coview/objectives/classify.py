"""Losses on the logits of a classifier: from labels, and from a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.positives import UNLABELED
from coview.objectives.rows import check_rows, working_type
from coview.objectives.temperature import check_temperature


def cross_entropy(logits: Tensor, labels: Tensor, *, ranks: Ranks = SINGLE_PROCESS) -> Tensor:
    """The mean, over all rows that have a label y_i, of -log softmax(logits_i) at y_i.

    Rows labeled -1 are left out of the mean; without any labeled row the loss is 0 with zero
    gradient.

    Shapes: logits [B, C], any floating type; labels integer [B] in -1 .. C - 1 -> scalar in float32
    (float64 for float64). With ``ranks`` the rows are this rank's; the mean of the ranks' values is
    the loss of the whole batch. Raises InvalidValue.
    """
    check_rows(logits, "tensor of logits", (None, None))
    if labels.shape != (len(logits),) or labels.is_floating_point() or labels.is_complex():
        raise InvalidValue(
            f"The labels are {labels.dtype} {tuple(labels.shape)}; expected one integer for each "
            f"of the {len(logits)} rows of logits, -1 where unknown."
        )
    count = ranks.all_reduce_sum((labels != UNLABELED).sum()).clamp_min(1)
    with torch.autocast(logits.device.type, enabled=False):
        values = F.cross_entropy(
            logits.to(working_type(logits)),
            labels.long(),
            ignore_index=UNLABELED,
            reduction="none",
        )
        return share_of_mean(values, count, ranks)


def distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float,
    scale_by_temperature_squared: bool = False,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """The mean over all rows of the cross-entropy from a teacher's softened answers, at which both

        P(y) = softmax(logits / tau)        l_i = -sum_y P_teacher(y) log P_student(y)

    are softened by one temperature. No gradient reaches the teacher. The student's logits get
    (P_student - P_teacher) / tau for each row; times tau^2 where that is asked for, which keeps
    the size of the gradient where it is when tau changes.

    Shapes: both [B, C], B >= 1, any floating type -> scalar in float32 (float64 for float64), at
    least the entropy of the teacher's answers. ``ranks`` as in ``cross_entropy``.
    Raises InvalidValue.

    Source: Chen et al., "Big self-supervised models are strong semi-supervised learners", NeurIPS
    2020, equation 2; the factor as in the authors' code.
    """
    check_temperature(temperature)
    check_rows(student_logits, "tensor of the student's logits", (None, None))
    check_rows(
        teacher_logits,
        "tensor of the teacher's logits",
        (len(student_logits), student_logits.shape[1]),
    )
    if len(student_logits) == 0 and ranks.is_single:
        raise InvalidValue("There are no rows of logits to distil.")
    count = sum(ranks.sizes(len(student_logits)))
    kind = working_type(student_logits, teacher_logits)
    with torch.autocast(student_logits.device.type, enabled=False):
        answers = (teacher_logits.detach().to(kind) / temperature).softmax(1)
        guesses = (student_logits.to(kind) / temperature).log_softmax(1)
        loss = share_of_mean(-(answers * guesses).sum(1), count, ranks)
        return loss * temperature**2 if scale_by_temperature_squared else loss
