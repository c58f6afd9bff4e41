"""The set objectives of methods as values: a loss function with its parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.text import plural
from coview.core.values import LATER
from coview.methods.objective import Objective
from coview.methods.temperature import WithTemperature
from coview.objectives import (
    chance_level,
    cross_entropy,
    decoupled_nt_xent,
    distillation,
    estimated_lower_bound,
    nt_xent,
    sup_con,
)
from coview.objectives.inputs import as_number, checked_temperature
from coview.objectives.sup_con import check_cap

HEALTH_TEMPERATURE = 0.2


class SetObjective(Objective, ABC):
    """All embeddings of a batch -> a scalar to minimize. Subclasses are frozen dataclasses.

    >>> isinstance(NTXent(temperature=0.5), SetObjective)
    True
    """

    __slots__ = ()

    needs_labels: ClassVar[bool] = False
    """Whether it needs labels; it then also accepts a single view of each image."""
    scale_invariant: ClassVar[bool] = True
    """Whether only the directions of the embeddings matter, not their lengths."""

    @property
    def mines_negatives(self) -> bool:
        """Whether it chooses negatives by their similarity. The loss then jumps where the choice
        changes, and views that agree need not cost less: they may have more negatives."""
        return False

    @abstractmethod
    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        """The loss, a scalar: this rank's share of the mean over all ranks (core.ranks).

        Shapes: views V x [B, D], float32 without autocast where the network computes in bf16;
        labels int64 [B] with -1 for unknown, or None.
        """

    def terms(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS, *,
        teacher: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The parts of the loss by name; their sum is the loss.

        Shapes: as of a call; ``teacher``: its logits of each view, V x [B, classes].
        """
        return {type(self).__name__: self(views, labels, ranks)}

    @property
    def health_objective(self) -> SetObjective:
        """What health figures of two views are measured with: itself.

        Another one where equal embeddings do not cost the most, or where the loss depends on their
        lengths: it could not distinguish learning from collapse.
        """
        return self

    @abstractmethod
    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """The loss of equal embeddings: the network has learned nothing."""

    @abstractmethod
    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """Estimated lowest loss in practice, for embeddings of width ``width``.

        Positives are equal, all others random. ``classes`` is the number of equally frequent
        labels; None: only the views of an image are positives.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NTXent(WithTemperature, SetObjective):
    """NT-Xent at a temperature > 0 (SimCLR, equation 1); ignores labels.

    ``decoupled``: without the positive in the denominator (Yeh et al. 2022, equation 6).
    ``normalize`` False: of dot products in place of cosines (SimCLR, table 5). ``negatives`` "other
    views": without the rows of the anchor's own view (its comparison of losses, table 4). The
    decoupled form has neither choice. Raises InvalidValue, UnknownName.

    >>> NTXent(temperature=1.0)([torch.eye(2), torch.eye(2)], None)
    tensor(0.5514)
    >>> NTXent(temperature=10.0, normalize=False)([9 * torch.eye(2), 9 * torch.eye(2)], None)
    tensor(0.0006)
    """

    decoupled: bool = False
    normalize: bool = field(default=True, metadata=LATER)
    negatives: Literal["all views", "other views"] = field(default="all views", metadata=LATER)

    def __post_init__(self) -> None:
        WithTemperature.__post_init__(self)
        if self.negatives not in ("all views", "other views"):
            raise UnknownName("`negatives`", str(self.negatives), ("all views", "other views"))
        if self.decoupled and not (self.normalize and self.negatives == "all views"):
            raise InvalidValue(
                "`decoupled` NT-Xent compares unit rows of all views; leave `normalize` and "
                "`negatives` out, or set `decoupled` to False."
            )

    @property
    def scale_invariant(self) -> bool:  # type: ignore[override]
        """Whether the rows are normalized."""
        return self.normalize

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        words = [WithTemperature.in_words(self)]
        if not self.normalize:
            words.append("rows not normalized")
        if self.negatives != "all views":
            words.append("negatives of the other view")
        return ", ".join(words)

    @property
    def health_objective(self) -> SetObjective:
        """Itself, but of normalized rows."""
        return self if self.normalize else NTXent(temperature=HEALTH_TEMPERATURE)

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        if self.decoupled:
            return decoupled_nt_xent(views, temperature=self.temperature, ranks=ranks)
        return nt_xent(
            views, temperature=self.temperature, normalize=self.normalize,
            negatives=self.negatives, ranks=ranks,
        )  # fmt: skip

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1); decoupled, ln(V B - V); with the negatives of other views, ln(V B - B)."""
        if self.negatives == "other views":
            return chance_level((views - 1) * batch_size + 1)
        return chance_level(views * (batch_size - 1) + 1 if self.decoupled else views * batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`estimated_lower_bound`; NT-Xent ignores ``classes``.

        Without normalization it is 0: rows can be of any length.
        """
        if not self.normalize:
            return 0.0
        rows = (views - 1) * batch_size + 1 if self.negatives == "other views" else (
            views * batch_size
        )  # fmt: skip
        if self.decoupled:
            return estimated_lower_bound(
                rows - views + 1, width, as_number(self.temperature), positives=0
            )
        return estimated_lower_bound(rows, width, as_number(self.temperature), positives=views - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupCon(WithTemperature, SetObjective):
    """SupCon at a temperature > 0 (Khosla et al., equation 2 for "out", 3 for "in").

    Accepts one view; images without another image of their label are then left out of the mean.
    ``positives_cap`` >= 1: at most so many positives of a row, the others of its label leave the
    loss (see ``coview.objectives.sup_con``); which ones stay depends on the order of the batch.
    ``scale_by_temperature``: the loss times the temperature, as in the authors' code, so that its
    gradient does not grow as the temperature falls; not with ``learn_temperature``. Raises
    InvalidValue, UnknownName.

    >>> SupCon(temperature=1.0)([torch.eye(2), torch.eye(2)], torch.tensor([0, 1]))
    tensor(0.5514)
    """

    form: Literal["out", "in"] = "out"
    positives_cap: int | None = field(default=None, metadata=LATER)
    scale_by_temperature: bool = field(default=False, metadata=LATER)
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        WithTemperature.__post_init__(self)
        if self.form not in ("out", "in"):
            raise UnknownName("form of the SupCon loss", str(self.form), ("out", "in"))
        check_cap(self.positives_cap)
        if self.scale_by_temperature and self.learn_temperature:
            # d(tau loss)/dtau of the form "out" is the entropy of the softmax, which is above 0.
            raise InvalidValue(
                "`scale_by_temperature` and `learn_temperature` do not go together: a lower "
                "temperature always lowers the scaled loss; leave one of them out "
                "(`set` method.objective.scale_by_temperature=false)."
            )

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        loss = sup_con(
            views, require_labels(labels, "SupCon"), temperature=self.temperature, form=self.form,
            positives_cap=self.positives_cap, ranks=ranks,
        )  # fmt: skip
        return self.temperature * loss if self.scale_by_temperature else loss

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        words = [WithTemperature.in_words(self)]
        if self.form != "out":
            words.append(f"form {self.form}")
        if self.positives_cap is not None:
            words.append(f"at most {plural(self.positives_cap, 'positive')} of a row")
        if self.scale_by_temperature:
            words.append("times the temperature")
        return ", ".join(words)

    @property
    def _scale(self) -> float:
        """What the plain loss is multiplied by."""
        return as_number(self.temperature) if self.scale_by_temperature else 1.0

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1), independent of the labels; with a cap, of labels that are all different.

        Scaled as the loss is.
        """
        return self._scale * chance_level(views * batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`estimated_lower_bound`, with V B / classes - 1 positives of each row.

        Those beyond a cap are left out of the rows.
        """
        rows: float = views * batch_size
        positives = views - 1 if classes is None else rows / classes - 1
        positives = max(positives, views - 1)
        if self.positives_cap is not None:
            kept = min(positives, max(self.positives_cap, views - 1))
            rows, positives = rows - (positives - kept), kept
        temperature = as_number(self.temperature)
        return self._scale * estimated_lower_bound(rows, width, temperature, positives=positives)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(SetObjective):
    """Softmax cross-entropy of logits [B, classes], the mean over the views (one is enough).

    The head outputs the logits, so its output width is ``classes``.

    >>> CrossEntropy(classes=2)([torch.eye(2)], torch.tensor([0, 1]))
    tensor(0.3133)
    """

    classes: int
    needs_labels: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = False

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        targets = require_labels(labels, "Cross-entropy")
        losses = [cross_entropy(logits, targets, ranks=ranks) for logits in views]
        return torch.stack(losses).mean()

    @property
    def health_objective(self) -> SetObjective:
        """SupCon at 0.2: of embeddings in place of logits."""
        return SupCon(temperature=HEALTH_TEMPERATURE)

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(classes)."""
        return math.log(self.classes)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation(CrossEntropy):
    """Cross-entropy of a teacher's softened classes, and of labels (SimCLRv2, equations 2 and 3).

    Of a batch of B images x_i, of which some have a label y_i, at the temperature tau > 0:

        P(y|x) = softmax(logits(x) / tau)_y
        loss = - weight / B sum_i sum_y P_teacher(y|x_i) log P_student(y|x_i)
               - (1 - weight) / B sum_(i with a label) log softmax(student logits(x_i))_(y_i)

    Both sums are divided by B, so that the mean over all batches is equation 3 divided by the
    number of images. ``teacher_weight``, alpha in the paper, in (0, 1]: 1 is the teacher alone
    (equation 2), and needs no labels. ``scale_by_temperature_squared``: the teacher's part times
    tau^2, as in the authors' code. Raises InvalidValue.

    >>> logits, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    >>> Distillation(classes=2, temperature=1.0)([logits], None, teacher=[teacher])
    tensor(1.1269)
    """

    temperature: float
    teacher_weight: float = 1.0
    scale_by_temperature_squared: bool = False
    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", checked_temperature(self.temperature))
        if not 0 < self.teacher_weight <= 1:
            raise InvalidValue(
                f"`teacher_weight` is {self.teacher_weight}; expected a number above 0, up to 1."
            )

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """Whether labels have a part in the loss."""
        return self.teacher_weight < 1

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        words = f"{type(self).__name__} at temperature {self.temperature:g}"
        if self.needs_labels:
            words += f", weight {self.teacher_weight:g} beside the labels'"
        return words

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS, *,
        teacher: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """``teacher``: its logits of each view. Raises InvalidValue without them."""
        terms = self.terms(views, labels, ranks, teacher=teacher)
        return torch.stack(list(terms.values())).sum()

    def terms(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS, *,
        teacher: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The weighted part of the teacher and, where labels have a part, theirs."""
        if teacher is None:
            raise InvalidValue(
                "Distillation learns from the logits of a teacher and there is none; use "
                "`coview distill TEACHER DATA`."
            )
        parts = {
            "teacher": [
                self.teacher_weight * distillation(
                    logits, targets, temperature=self.temperature,
                    scale_by_temperature_squared=self.scale_by_temperature_squared, ranks=ranks,
                )
                for logits, targets in zip(views, teacher, strict=True)
            ],
        }  # fmt: skip
        if self.needs_labels:
            known = require_labels(labels, "Distillation with labels")
            parts["labels"] = [
                (1 - self.teacher_weight)
                * cross_entropy(logits, known, over_all_rows=True, ranks=ranks)
                for logits in views
            ]
        return {name: torch.stack(losses).mean() for name, losses in parts.items()}

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """The loss of equal logits where every image has a label: ln(classes), the teacher's part
        scaled as in the loss."""
        scale = self.temperature**2 if self.scale_by_temperature_squared else 1.0
        return (self.teacher_weight * scale + 1 - self.teacher_weight) * math.log(self.classes)


def require_labels(labels: Tensor | None, objective: str) -> Tensor:
    """The labels. Raises InvalidValue if there are none."""
    if labels is None:
        raise InvalidValue(
            f"{objective} needs labels and these images have none; "
            "give labels, or use a method without labels, such as simclr."
        )
    return labels
