"""The objectives of methods as values: which function, with which numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from coview.core.errors import InvalidValue, UnknownName
from coview.objectives import chance, nt_xent, sup_con


class Objective(Protocol):
    """A set objective: all embeddings of a batch -> one number to minimise."""

    @property
    def temperature(self) -> float: ...

    @property
    def needs_labels(self) -> bool:
        """Whether a batch without labels cannot be learned from."""
        ...

    def __call__(self, views: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """views V x [B, D], labels int64 [B] with -1 where unknown, or None -> scalar."""
        ...

    def chance(self, batch_size: int, *, views: int = 2) -> float:
        """The loss of equal embeddings, which nothing has been learned from."""
        ...

    def floor(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """About the lowest loss in practice, for embeddings of ``width`` numbers.

        Positives are equal, the rest spread at random. ``classes`` counts the equally frequent
        labels, None where each image is alone with its views.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NTXent:
    """NT-Xent at a temperature > 0 (SimCLR, equation 1); labels are not looked at."""

    temperature: float

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def needs_labels(self) -> bool:
        return False

    def __call__(self, views: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        return nt_xent(views, temperature=self.temperature)

    def chance(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1)."""
        return chance(views * batch_size)

    def floor(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`aligned_loss`; ``classes`` does not matter to NT-Xent."""
        return aligned_loss(views * batch_size, views - 1, width, self.temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupCon:
    """SupCon at a temperature > 0 (Khosla et al., equation 2 for "out", 3 for "in")."""

    temperature: float
    form: Literal["out", "in"] = "out"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.form not in ("out", "in"):
            raise UnknownName("form of the SupCon loss", str(self.form), ("out", "in"))

    @property
    def needs_labels(self) -> bool:
        return True

    def __call__(self, views: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        if labels is None:
            raise InvalidValue(
                "SupCon learns from labels and these images have none; "
                "give labels, or learn without them by simclr."
            )
        return sup_con(views, labels, temperature=self.temperature, form=self.form)

    def chance(self, batch_size: int, *, views: int = 2) -> float:
        """ln(V B - 1), whatever the labels are."""
        return chance(views * batch_size)

    def floor(
        self, batch_size: int, width: int, *, views: int = 2, classes: int | None = None
    ) -> float:
        """See :func:`aligned_loss`, with V B / classes - 1 positives of each row."""
        rows = views * batch_size
        positives = views - 1 if classes is None else rows / classes - 1
        return aligned_loss(rows, max(positives, views - 1), width, self.temperature)


def aligned_loss(rows: int, positives: float, width: int, temperature: float) -> float:
    """ln(P + N exp(-1/tau + 1/(2 D tau^2))): P equal positives, N other rows at random, width D.

    The cosine of random unit rows has variance 1/D; its exponential's mean is taken to second
    order. Never above chance, ln(P + N).
    """
    spread = -1 / temperature + 1 / (2 * width * temperature**2)
    return math.log(positives + (rows - 1 - positives) * math.exp(min(spread, 0.0)))


def check_temperature(temperature: float) -> None:
    """Raises InvalidValue unless the temperature is a finite number above 0."""
    if not 0 < temperature < math.inf:
        raise InvalidValue(
            f"The temperature is {temperature}; give a number above 0 (usual: 0.05 to 1)."
        )
