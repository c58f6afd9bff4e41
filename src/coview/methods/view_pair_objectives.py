"""The set objectives whose negatives come from the other view only: NT-Logistic, margin triplet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.set_objectives import HEALTH_TEMPERATURE, NTXent, SetObjective
from coview.methods.temperature import WithTemperature
from coview.objectives import margin_triplet, nt_logistic
from coview.objectives.inputs import as_number
from coview.objectives.view_pairs import Mining, check_choices, checked_margin


class ViewPairObjective(SetObjective):
    """An anchor of one view against the rows of another view.

    With semi-hard mining equal embeddings have no negative at all, so that a collapsed network has
    the lowest loss: the loss does not say whether the network learns.
    """

    __slots__ = ()

    semi_hard: bool
    reduction: Literal["mean", "sum"]

    @property
    def mines_negatives(self) -> bool:
        return self.semi_hard

    @property
    def mining(self) -> Mining:
        return "semi-hard" if self.semi_hard else None

    @property
    def mining_in_words(self) -> str:
        return ", semi-hard negatives" if self.semi_hard else ""

    @property
    def health_objective(self) -> SetObjective:
        """NT-Xent at 0.2: with mining, equal embeddings have the lowest loss."""
        return NTXent(temperature=HEALTH_TEMPERATURE)

    def of_negatives(self, each: float, batch_size: int) -> float:
        """The part of ``batch_size`` - 1 negatives of one value; without mining."""
        count = batch_size - 1
        return each * (count if self.reduction == "sum" else min(count, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NTLogistic(WithTemperature, ViewPairObjective):
    """NT-Logistic at a temperature > 0 (SimCLR, table 2); ignores labels.

    ``semi_hard``: of the negatives of an anchor only the nearest of those that are farther than its
    positive. ``reduction`` of the negatives of an anchor: "mean" or "sum". Raises InvalidValue,
    UnknownName.

    >>> import torch
    >>> NTLogistic(temperature=0.5)([torch.eye(4), torch.eye(4)], None)
    tensor(0.8201)
    """

    semi_hard: bool = False
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        WithTemperature.__post_init__(self)
        check_choices(self.mining, self.reduction)

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        return nt_logistic(
            views, temperature=self.temperature, mining=self.mining, reduction=self.reduction,
            ranks=ranks,
        )  # fmt: skip

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        return WithTemperature.in_words(self) + self.mining_in_words

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """ln(1 + e^(-1/tau)) + ln(1 + e^(1/tau)); with mining the first term alone."""
        slope = 1 / as_number(self.temperature)
        attraction = _softplus(-slope)
        if self.semi_hard:
            return attraction
        return attraction + self.of_negatives(_softplus(slope), batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """ln(1 + e^(-1/tau)) + ln 2 + 1 / (8 D tau^2), the second order of random cosines; with
        mining the chance level, which nothing is below."""
        chance = self.chance_level(batch_size, views=views)
        if self.semi_hard:
            return chance
        slope = 1 / as_number(self.temperature)
        negative = min(math.log(2) + slope**2 / (8 * width), _softplus(slope))
        return min(_softplus(-slope) + self.of_negatives(negative, batch_size), chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginTriplet(ViewPairObjective):
    """The margin triplet loss with a margin >= 0 (SimCLR, table 2); ignores labels.

    ``semi_hard``: of the negatives of an anchor only the nearest of those that are farther than its
    positive and within the margin. ``reduction`` of the negatives of an anchor: "mean" or "sum".
    Raises InvalidValue, UnknownName.

    >>> import torch
    >>> MarginTriplet(margin=1.5)([torch.eye(4), torch.eye(4)], None)
    tensor(0.5000)
    """

    margin: float
    semi_hard: bool = False
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", checked_margin(self.margin))
        check_choices(self.mining, self.reduction)

    def __call__(
        self, views: Sequence[Tensor], labels: Tensor | None, ranks: Ranks = SINGLE_PROCESS
    ) -> Tensor:
        return margin_triplet(
            views, margin=self.margin, mining=self.mining, reduction=self.reduction, ranks=ranks
        )

    def in_words(self) -> str:
        """See :meth:`Objective.in_words`."""
        return f"{type(self).__name__} with margin {self.margin:g}{self.mining_in_words}"

    def chance_level(self, batch_size: int, *, views: int = 2) -> float:
        """The margin; with mining 0."""
        return 0.0 if self.semi_hard else self.of_negatives(self.margin, batch_size)

    def lower_bound(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """The mean of max(c - 1 + margin, 0) over random cosines c, normal with variance 1/D; with
        mining 0."""
        if self.semi_hard:
            return 0.0
        mean, deviation = self.margin - 1, 1 / math.sqrt(width)
        at = mean / deviation
        density = math.exp(-at * at / 2) / math.sqrt(2 * math.pi)
        share = 0.5 * math.erfc(-at / math.sqrt(2))
        each = min(mean * share + deviation * density, self.margin)
        return self.of_negatives(max(each, 0.0), batch_size)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
