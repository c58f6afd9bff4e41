"""A batch that is spread over processes: this rank's rows compared with the rows of all ranks.

Every rank is responsible for the anchors of its own images and sees all ranks' rows as candidates;
rows are gathered once, and the gather's backward sums what the ranks say of each other's rows. A
rank's loss is world * (sum over its anchors) / (anchors of all ranks): the mean over the ranks is
the loss of the whole batch, also where the ranks have unequal numbers of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coview.core.ranks import Ranks
from coview.objectives.log_partition import log_partition
from coview.objectives.log_partition_between import log_partition_between
from coview.objectives.rows import unit_rows
from coview.objectives.temperature import Temperature
from coview.objectives.tiles import PairLogWeights


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Unit rows: those of this rank as anchors [V b, D], those of all as candidates [V B, D].

    Both are view-major; images are in the order of ranks. Alone, anchors and candidates are one
    tensor.
    """

    ranks: Ranks
    sizes: tuple[int, ...]
    views: int
    anchors: Tensor
    candidates: Tensor

    @classmethod
    def of(cls, views: Sequence[Tensor], ranks: Ranks) -> Gathered:
        """Normalizes this rank's views V x [b, D] and fetches the others'. Raises InvalidValue."""
        rows = unit_rows(views, may_be_empty=not ranks.is_single)
        if ranks.is_single:
            return cls(ranks, (len(views[0]),), len(views), rows, rows)
        sizes, width = ranks.sizes(len(views[0])), rows.shape[1]
        by_image = rows.view(len(views), -1, width).transpose(0, 1)
        everyones = ranks.gather(by_image.contiguous(), sizes)
        candidates = everyones.transpose(0, 1).reshape(-1, width)
        return cls(ranks, sizes, len(views), rows, candidates)

    @property
    def images(self) -> int:
        """B, the images of all ranks."""
        return sum(self.sizes)

    @property
    def local_slice(self) -> slice:
        """This rank's images among those of all ranks."""
        first = sum(self.sizes[: self.ranks.rank])
        return slice(first, first + self.sizes[self.ranks.rank])

    def anchor_images(self) -> Tensor:
        """The image of every anchor, as its index among all ranks' images. int64 [V b]."""
        local_slice, device = self.local_slice, self.anchors.device
        return torch.arange(local_slice.start, local_slice.stop, device=device).repeat(self.views)

    def anchor_rows(self) -> Tensor:
        """Every anchor's own index among the candidates. int64 [V b]."""
        by_view = torch.arange(self.views * self.images, device=self.anchors.device)
        return by_view.view(self.views, -1)[:, self.local_slice].flatten()

    def local(self, per_candidate: Tensor) -> Tensor:
        """What a tensor [V B, ...] over the candidates says of the anchors. [V b, ...]."""
        if self.ranks.is_single:
            return per_candidate
        by_view = per_candidate.view(self.views, self.images, *per_candidate.shape[1:])
        return by_view[:, self.local_slice].flatten(0, 1)

    def other_views(self) -> Tensor:
        """The mean of the other views of every anchor's image. [V b, D]; needs V >= 2."""
        by_view = self.anchors.view(self.views, -1, self.anchors.shape[1])
        return (by_view.sum(0) - by_view).flatten(0, 1) / (self.views - 1)

    def log_partition(
        self, temperature: Temperature, log_weights: PairLogWeights | None = None
    ) -> Tensor:
        """Over all candidates but the anchor itself, for every anchor: [V b]."""
        if self.ranks.is_single:
            return log_partition(self.anchors, temperature, log_weights=log_weights)
        return log_partition_between(
            self.anchors,
            self.candidates,
            temperature,
            own=self.anchor_rows(),
            log_weights=log_weights,
        )

    def mean(self, values: Tensor) -> Tensor:
        """This rank's part of the mean of ``values`` [V b] over the anchors of all ranks."""
        return share_of_mean(values, self.views * self.images, self.ranks)

    def mean_of(self, values: Tensor, chosen: Tensor) -> Tensor:
        """The same over the anchors that are chosen, bool [V b]; 0 where none is."""
        count = self.ranks.all_reduce_sum(chosen.sum())
        return share_of_mean(values.where(chosen, 0), count.clamp_min(1), self.ranks)


def share_of_mean(values: Tensor, count: int | Tensor, ranks: Ranks) -> Tensor:
    """world * sum(values) / count: what a rank adds to the mean over ``count`` values of all."""
    return values.sum() * ranks.world / count
