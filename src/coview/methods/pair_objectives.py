"""The pair objectives of methods as values: a query, its key, and optional negatives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.methods.objective import Objective
from coview.methods.set_objectives import HEALTH_TEMPERATURE, NTXent, SetObjective
from coview.methods.temperature import WithTemperature
from coview.objectives import estimated_lower_bound, info_nce, negative_cosine
from coview.objectives.inputs import as_number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negatives:
    """Negative keys: ``rows`` [K, D] and the ``ids`` [K] of their images (-1 unknown).

    >>> import torch
    >>> Negatives(rows=torch.zeros(5, 8), ids=torch.full((5,), -1)).rows.shape
    torch.Size([5, 8])
    """

    rows: Tensor
    ids: Tensor


class PairObjective(Objective, ABC):
    """Compares a query with its key: [B, D] x [B, D] -> a scalar to minimize.

    Subclasses are frozen dataclasses.

    >>> isinstance(NegativeCosine(), PairObjective)
    True
    """

    __slots__ = ()

    takes_negatives: ClassVar[bool] = False
    """Whether it uses negatives, of a memory or of the batch."""

    @property
    def uses_batch_negatives(self) -> bool:
        """Whether the keys of the batch's other images are negatives."""
        return False

    @abstractmethod
    def __call__(
        self, query: Tensor, key: Tensor, ids: Tensor, negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:  # fmt: skip
        """query, key [B, D] and ids [B] of this rank -> its share of the mean (core.ranks)."""

    @property
    def health_objective(self) -> SetObjective:
        """What health figures of two views are measured with: NT-Xent at 0.2.

        An objective without negatives cannot distinguish learning from collapse.
        """
        return NTXent(temperature=HEALTH_TEMPERATURE)

    @abstractmethod
    def chance_level(self, negatives: int) -> float:
        """The value of a network that has learned nothing, with this number of negatives."""

    @abstractmethod
    def lower_bound(self, negatives: int, width: int) -> float:
        """Estimated lowest value in practice, for embeddings of width ``width``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoNCE(WithTemperature, PairObjective):
    """InfoNCE at a temperature > 0 (MoCo, equation 1).

    Negatives are the memory and, with ``batch_negatives``, all keys of the batch's other images.
    Keys of the query's own image are excluded by their id. Raises InvalidValue.

    >>> import torch
    >>> query, key = torch.eye(2), torch.eye(2)
    >>> negatives = Negatives(rows=key, ids=torch.arange(2))
    >>> InfoNCE(temperature=1.0)(query, key, torch.arange(2), negatives)
    tensor(0.3133)
    """

    batch_negatives: bool = False
    takes_negatives: ClassVar[bool] = True

    @property
    def uses_batch_negatives(self) -> bool:
        return self.batch_negatives

    @property
    def health_objective(self) -> SetObjective:
        """NT-Xent at the same temperature."""
        return NTXent(temperature=self.temperature)

    def __call__(
        self, query: Tensor, key: Tensor, ids: Tensor, negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:  # fmt: skip
        others = negatives or Negatives(rows=key[:0], ids=ids[:0])
        return info_nce(
            query, key, negatives=others.rows, temperature=self.temperature,
            ids=ids, negative_ids=others.ids, ranks=ranks,
        )  # fmt: skip

    def chance_level(self, negatives: int) -> float:
        """ln(1 + negatives)."""
        return math.log(1 + negatives)

    def lower_bound(self, negatives: int, width: int) -> float:
        """See :func:`estimated_lower_bound`, with one positive."""
        return estimated_lower_bound(negatives + 2, width, as_number(self.temperature))


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCosine(PairObjective):
    """-cos(query, key) (SimSiam, equation 1): 0 for unrelated, -1 for equal directions.

    >>> import torch
    >>> NegativeCosine()(torch.eye(2), torch.ones(2, 2), torch.arange(2), None)
    tensor(-0.7071)
    """

    def __call__(
        self, query: Tensor, key: Tensor, ids: Tensor, negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:  # fmt: skip
        return negative_cosine(query, key, ranks=ranks)

    def chance_level(self, negatives: int) -> float:
        """0, the value of unrelated directions."""
        return 0.0

    def lower_bound(self, negatives: int, width: int) -> float:
        """-1, the value of equal directions; a collapsed network reaches it, too."""
        return -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredDistance(PairObjective):
    """|q - k|^2 = 2 - 2 cos(q, k) of unit rows (BYOL, equation 2): 2 for unrelated, 0 for equal.

    >>> import torch
    >>> SquaredDistance()(torch.eye(2), torch.ones(2, 2), torch.arange(2), None)
    tensor(0.5858)
    """

    def __call__(
        self, query: Tensor, key: Tensor, ids: Tensor, negatives: Negatives | None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> Tensor:  # fmt: skip
        return 2 * ranks.share(len(query)) + 2 * negative_cosine(query, key, ranks=ranks)

    def chance_level(self, negatives: int) -> float:
        """2, the value of unrelated directions."""
        return 2.0

    def lower_bound(self, negatives: int, width: int) -> float:
        """0, the value of equal directions; a collapsed network reaches it, too."""
        return 0.0
