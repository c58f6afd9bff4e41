"""The set objectives of methods as values: which function, with which numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.temperature import WithTemperature
from coview.objectives import (
    chance_level,
    cross_entropy,
    decoupled_nt_xent,
    estimated_lower_bound,
    nt_xent,
    sup_con,
)
from coview.objectives.inputs import as_number


class SetObjective(ABC):
    """All embeddings of a batch -> one number to minimize. Subclasses are frozen dataclasses."""

    __slots__ = ()

    @property
    def needs_labels(self) -> bool:
        """Whether a batch without labels cannot be learned from."""
        return False

    @property
    def sees_directions(self) -> bool:
        """Whether embeddings count by their direction alone, whatever their length."""
        return True

    @abstractmethod
    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        """The loss, a scalar: this rank's share of the mean over all ranks (core.ranks).

        Shapes: views V x [B, D]; labels int64 [B] with -1 where unknown, or None.
        """

    @abstractmethod
    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """The loss of equal embeddings, which nothing has been learned from."""

    @abstractmethod
    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """About the lowest loss in practice, for embeddings of ``width`` numbers.

        Positives are equal, the rest spread at random. ``classes`` counts the equally frequent
        labels, None where each image is alone with its views.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NTXent(WithTemperature, SetObjective):
    """NT-Xent at a temperature > 0 (SimCLR, equation 1); labels are not looked at.

    ``decoupled``: without the positive in the denominator (Yeh et al. 2022, equation 6).
    """

    decoupled: bool = False

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        function = decoupled_nt_xent if self.decoupled else nt_xent
        return function(views, temperature=self.temperature, ranks=ranks)

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1); decoupled, ln(V B - V)."""
        return chance_level(views * (batch_size - 1) + 1 if self.decoupled else views * batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`practical_floor`; ``classes`` does not matter to NT-Xent."""
        rows = views * batch_size
        if self.decoupled:
            return estimated_lower_bound(
                rows - views + 1, width, as_number(self.temperature), positives=0
            )
        return estimated_lower_bound(rows, width, as_number(self.temperature), positives=views - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupCon(WithTemperature, SetObjective):
    """SupCon at a temperature > 0 (Khosla et al., equation 2 for "out", 3 for "in")."""

    form: Literal["out", "in"] = "out"

    def __post_init__(self) -> None:
        WithTemperature.__post_init__(self)
        if self.form not in ("out", "in"):
            raise UnknownName("form of the SupCon loss", str(self.form), ("out", "in"))

    @property
    def needs_labels(self) -> bool:
        return True

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        return sup_con(
            views, require(labels, "SupCon"), temperature=self.temperature, form=self.form,
            ranks=ranks,
        )  # fmt: skip

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1), whatever the labels are."""
        return chance_level(views * batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`practical_floor`, with V B / classes - 1 positives of each row."""
        rows = views * batch_size
        positives = views - 1 if classes is None else rows / classes - 1
        positives = max(positives, views - 1)
        return estimated_lower_bound(rows, width, as_number(self.temperature), positives=positives)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(SetObjective):
    """Softmax cross-entropy of logits [B, classes], the mean over views: the supervised baseline.

    The head gives the logits, so its output is ``classes`` wide.
    """

    classes: int

    @property
    def needs_labels(self) -> bool:
        return True

    @property
    def sees_directions(self) -> bool:
        return False

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        known = require(labels, "Cross-entropy")
        losses = [cross_entropy(logits, known, ranks=ranks) for logits in views]
        return torch.stack(losses).mean()

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(classes)."""
        return math.log(self.classes)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """0."""
        return 0.0


def require(labels: Tensor | None, who: str) -> Tensor:
    """The labels. Raises InvalidValue where there are none."""
    if labels is None:
        raise InvalidValue(
            f"{who} learns from labels and these images have none; "
            "give labels, or learn without them by simclr."
        )
    return labels
