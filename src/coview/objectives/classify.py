"""Losses on the logits of a classifier: from labels, and from a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.inputs import check_rows, check_temperature, working_dtype
from coview.objectives.positives import UNLABELED


def cross_entropy(logits: Tensor, labels: Tensor, *, ranks: Ranks = SINGLE_PROCESS) -> Tensor:
    """The mean, over all rows that have a label y_i, of -log softmax(logits_i) at y_i.

    Rows labeled -1 are left out of the mean; if no row has a label the loss is 0 with zero
    gradient.

    Shapes: logits [B, C], any floating type; labels integer [B] in -1 .. C - 1 -> scalar in float32
    (float64 for float64). With ``ranks`` the rows are this rank's; the mean of the ranks' values is
    the loss of the whole batch. Raises InvalidValue.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    >>> cross_entropy(logits, torch.tensor([0, 1, -1]))  # the mean of log(1 + e^-2) and log(2)
    tensor(0.4100)
    """
    check_rows(logits, "logits", (None, None))
    if labels.shape != (len(logits),) or labels.is_floating_point() or labels.is_complex():
        raise InvalidValue(
            f"`labels` are {labels.dtype} {tuple(labels.shape)}; expected one integer for each "
            f"of the {len(logits)} rows of logits, -1 where unknown."
        )
    count = ranks.all_reduce_sum((labels != UNLABELED).sum()).clamp_min(1)
    with torch.autocast(logits.device.type, enabled=False):
        values = F.cross_entropy(
            logits.to(working_dtype(logits)), labels.long(), ignore_index=UNLABELED,
            reduction="none",
        )  # fmt: skip
        return share_of_mean(values, count, ranks)


def distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float,
    scale_by_temperature_squared: bool = False,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """The mean over all rows of the cross-entropy of teacher and student at one temperature:

        P(y) = softmax(logits / tau)        l_i = -sum_y P_teacher(y) log P_student(y)

    No gradient reaches the teacher. The gradient of the student's logits is
    (P_student - P_teacher) / tau for each row. ``scale_by_temperature_squared`` multiplies the loss
    by tau^2, so that the size of the gradient stays about the same when tau changes.

    Shapes: both [B, C], B >= 1, any floating type -> scalar in float32 (float64 for float64), at
    least the entropy of the teacher's probabilities. ``ranks`` as in ``cross_entropy``.
    Raises InvalidValue.

    Source: Chen et al., "Big self-supervised models are strong semi-supervised learners", NeurIPS
    2020, equation 2; the factor as in the authors' code.

    >>> import torch
    >>> teacher = torch.tensor([[0.0, 0.0]])
    >>> distillation(torch.tensor([[2.0, 0.0]]), teacher, temperature=1.0)
    tensor(1.1269)
    """
    check_temperature(temperature)
    check_rows(student_logits, "student_logits", (None, None))
    check_rows(teacher_logits, "teacher_logits", (len(student_logits), student_logits.shape[1]))
    if len(student_logits) == 0 and ranks.is_single:
        raise InvalidValue("`student_logits` has no rows; expected at least one.")
    count = sum(ranks.sizes(len(student_logits)))
    dtype = working_dtype(student_logits, teacher_logits)
    with torch.autocast(student_logits.device.type, enabled=False):
        teacher = (teacher_logits.detach().to(dtype) / temperature).softmax(1)
        log_student = (student_logits.to(dtype) / temperature).log_softmax(1)
        loss = share_of_mean(-(teacher * log_student).sum(1), count, ranks)
        return loss * temperature**2 if scale_by_temperature_squared else loss
