"""The pair objectives of methods as values: a query, its key, and perhaps negatives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.temperature import WithTemperature
from coview.objectives import estimated_lower_bound, info_nce, negative_cosine
from coview.objectives.inputs import as_number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negatives:
    """Candidates [K, D] besides the own key, with the ids [K] of their images (-1 unknown)."""

    rows: Tensor
    ids: Tensor


class PairObjective(ABC):
    """Compares a query with its key: [B, D] x [B, D] -> one number to minimize.

    Subclasses are frozen dataclasses.
    """

    __slots__ = ()

    @property
    def takes_negatives(self) -> bool:
        """Whether a memory means anything to it."""
        return False

    @property
    def uses_batch(self) -> bool:
        """Whether the keys of the batch's other images are negatives."""
        return False

    @abstractmethod
    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        ids: Tensor,
        negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:
        """query, key [B, D] and ids [B] of this rank -> its share of the mean (core.ranks)."""

    @abstractmethod
    def chance_level(self, negatives: int) -> float:
        """The value where nothing has been learned, beside so many negatives."""

    @abstractmethod
    def lower_bound(self, negatives: int, width: int) -> float:
        """About the lowest value in practice, for embeddings of ``width`` numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoNCE(WithTemperature, PairObjective):
    """InfoNCE at a temperature > 0 (MoCo, equation 1).

    Negatives are the memory and, with ``batch_negatives``, all keys of the batch's other images.
    Keys of the query's own image, the key of its own view too, are left out by their id.
    """

    batch_negatives: bool = False

    @property
    def takes_negatives(self) -> bool:
        return True

    @property
    def uses_batch(self) -> bool:
        return self.batch_negatives

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        ids: Tensor,
        negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:
        others = negatives or Negatives(rows=key[:0], ids=ids[:0])
        return info_nce(
            query, key, negatives=others.rows, temperature=self.temperature,
            ids=ids, negative_ids=others.ids, ranks=ranks,
        )  # fmt: skip

    def chance_level(self, negatives: int) -> float:
        """ln(1 + negatives)."""
        return math.log(1 + negatives)

    def lower_bound(self, negatives: int, width: int) -> float:
        """See :func:`practical_floor`, with one positive."""
        return estimated_lower_bound(negatives + 2, width, as_number(self.temperature))


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCosine(PairObjective):
    """-cos(query, key) (SimSiam, equation 1): 0 for unrelated, -1 for equal directions."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        ids: Tensor,
        negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:
        return negative_cosine(query, key, ranks=ranks)

    def chance_level(self, negatives: int) -> float:
        """0, of unrelated directions."""
        return 0.0

    def lower_bound(self, negatives: int, width: int) -> float:
        """-1, of equal directions; a collapsed network reaches it too."""
        return -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredDistance(PairObjective):
    """|q - k|^2 = 2 - 2 cos(q, k) of unit rows (BYOL, equation 2): 2 for unrelated, 0 for equal."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        ids: Tensor,
        negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:
        return 2 * ranks.share(len(query)) + 2 * negative_cosine(query, key, ranks=ranks)

    def chance_level(self, negatives: int) -> float:
        """2, of unrelated directions."""
        return 2.0

    def lower_bound(self, negatives: int, width: int) -> float:
        """0, of equal directions; a collapsed network reaches it too."""
        return 0.0
