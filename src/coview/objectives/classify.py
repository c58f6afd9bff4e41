"""Losses on the logits of a classifier: from labels, and from a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.inputs import (
    Temperature,
    check_rows,
    checked_temperature,
    integers,
    working_dtype,
)
from coview.objectives.positives import UNLABELED


def cross_entropy(
    logits: Tensor, labels: Tensor | Sequence[int], *, over_all_rows: bool = False,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:  # fmt: skip
    """The mean, over all rows that have a label y_i, of -log softmax(logits_i) at y_i.

    Rows labeled -1 are left out of the mean; if no row has a label the loss is 0 with zero
    gradient. ``over_all_rows``: the same sum divided by the number of all rows, so that a row with
    a label counts as much in any batch.

    Shapes: logits [B, C], any floating type; labels integer [B] in -1 .. C - 1, a tensor or a list
    -> scalar in float32 (float64 for float64). Labels on a GPU are not read here, so that the host
    need not wait: CUDA itself stops at one of C or more. With ``ranks`` the rows are this rank's;
    the mean of the ranks' values is the loss of the whole batch. Raises InvalidValue.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    >>> cross_entropy(logits, torch.tensor([0, 1, -1]))  # the mean of log(1 + e^-2) and log(2)
    tensor(0.4100)
    """
    check_rows(logits, "logits", (None, None))
    labels = integers(labels, "labels", logits.device)
    if labels.shape != (len(logits),):
        raise InvalidValue(
            f"`labels` have the shape {tuple(labels.shape)}; expected one integer for each "
            f"of the {len(logits)} rows of logits, -1 where unknown."
        )
    _check_range(labels, logits.shape[1])
    count: int | Tensor = (
        max(1, sum(ranks.sizes(len(labels)))) if over_all_rows
        else ranks.all_reduce_sum((labels != UNLABELED).sum()).clamp_min(1)
    )  # fmt: skip
    with torch.autocast(logits.device.type, enabled=False):
        values = F.cross_entropy(
            logits.to(working_dtype(logits)), labels, ignore_index=UNLABELED,
            reduction="none",
        )  # fmt: skip
        return share_of_mean(values, count, ranks)


def _check_range(labels: Tensor, classes: int) -> None:
    """Raises InvalidValue for a label outside -1 .. classes - 1, where it can be read in passing.

    On a GPU the host would wait for it, and a compiled function would fall into parts.
    """
    if labels.device.type != "cpu" or len(labels) == 0 or torch.compiler.is_compiling():
        return
    values = labels.numpy()
    wrong = values[(values < UNLABELED) | (values >= classes)]
    if len(wrong):
        raise InvalidValue(
            f"A label is {wrong[0]}; expected 0 to {classes - 1}, or {UNLABELED} where it is "
            "unknown."
        )


def distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: Temperature,
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
    temperature = checked_temperature(temperature)
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
