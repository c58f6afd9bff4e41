"""A batch that is spread over processes: this rank's rows compared with the rows of all ranks.

Every rank computes the loss of the anchors of its own images, with all ranks' rows as candidates.
Rows are gathered once; the backward pass of the gather sums the gradients that all ranks computed
for a row. A rank's loss is world * (sum over its anchors) / (anchors of all ranks), so the mean
over the ranks is the loss of the whole batch, even if the ranks have unequal numbers of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coview.core.ranks import Ranks
from coview.objectives.inputs import Temperature, join_views, normalize_views
from coview.objectives.log_partition import PairLogWeights, log_partition


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Unit rows: those of this rank as anchors [V b, D], those of all as candidates [V B, D].

    Both are view-major; images are in the order of ranks. In a single process anchors and
    candidates are one tensor. ``are_unit`` False: the rows have any length.
    """

    ranks: Ranks
    sizes: tuple[int, ...]
    views: int
    anchors: Tensor
    candidates: Tensor
    are_unit: bool = True

    @classmethod
    def of(cls, views: Sequence[Tensor], ranks: Ranks, *, normalize: bool = True) -> Gathered:
        """Normalize this rank's views V x [b, D] and gather those of all. Raises InvalidValue.

        ``normalize`` False: they stay as they are.
        """
        joined = normalize_views if normalize else join_views
        rows = joined(views, may_be_empty=not ranks.is_single)
        if ranks.is_single:
            return cls(ranks, (len(views[0]),), len(views), rows, rows, normalize)
        sizes, width = ranks.sizes(len(views[0])), rows.shape[1]
        by_image = rows.view(len(views), -1, width).transpose(0, 1)
        gathered = ranks.gather(by_image.contiguous(), sizes)
        candidates = gathered.transpose(0, 1).reshape(-1, width)
        return cls(ranks, sizes, len(views), rows, candidates, normalize)

    @property
    def images(self) -> int:
        """B, the number of images of all ranks."""
        return sum(self.sizes)

    @property
    def local_slice(self) -> slice:
        """This rank's images among those of all ranks."""
        first = sum(self.sizes[: self.ranks.rank])
        return slice(first, first + self.sizes[self.ranks.rank])

    def anchor_images(self) -> Tensor:
        """The image of every anchor, as an index among all ranks' images. int64 [V b]."""
        images, device = self.local_slice, self.anchors.device
        return torch.arange(images.start, images.stop, device=device).repeat(self.views)

    def anchor_rows(self) -> Tensor:
        """Every anchor's own index among the candidates. int64 [V b]."""
        return self.local(torch.arange(self.views * self.images, device=self.anchors.device))

    def local(self, per_candidate: Tensor) -> Tensor:
        """The entries of the anchors in a tensor over the candidates. [V B, ...] -> [V b, ...]."""
        if self.ranks.is_single:
            return per_candidate
        by_view = per_candidate.view(self.views, self.images, *per_candidate.shape[1:])
        return by_view[:, self.local_slice].flatten(0, 1)

    def anchor_views(self) -> Tensor:
        """The view of every anchor. int64 [V b]."""
        return self.local(self.candidate_views())

    def candidate_views(self) -> Tensor:
        """The view of every candidate. int64 [V B]."""
        views = torch.arange(self.views, device=self.anchors.device)
        return views.repeat_interleave(self.images)

    def other_views(self) -> Tensor:
        """The mean of the other views of every anchor's image. [V b, D]; needs V >= 2."""
        by_view = self.anchors.view(self.views, -1, self.anchors.shape[1])
        return (by_view.sum(0) - by_view).flatten(0, 1) / (self.views - 1)

    def log_partition(
        self, temperature: Temperature, log_weights: PairLogWeights | None = None
    ) -> Tensor:
        """For every anchor, over all candidates except the anchor itself: [V b]."""
        if log_weights is None and not self.are_unit:
            # Without weights the sums have no row maximum, which rows of any length need.
            log_weights = self._no_weights
        return log_partition(
            self.anchors, temperature, candidates=None if self.ranks.is_single else self.candidates,
            own=None if self.ranks.is_single else self.anchor_rows(), log_weights=log_weights,
        )  # fmt: skip

    def _no_weights(self, anchors: slice, keys: slice) -> Tensor:
        return self.anchors.new_zeros(1, 1)

    def mean(self, values: Tensor) -> Tensor:
        """This rank's share of the mean of ``values`` [V b] over the anchors of all ranks."""
        return share_of_mean(values, self.views * self.images, self.ranks)

    def masked_mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """The same over the anchors in ``mask``, bool [V b]; 0 where the mask is empty."""
        count = self.ranks.all_reduce_sum(mask.sum())
        return share_of_mean(values.where(mask, 0), count.clamp_min(1), self.ranks)


def share_of_mean(values: Tensor, count: int | Tensor, ranks: Ranks) -> Tensor:
    """world * sum(values) / count: a rank's share of the mean over ``count`` values of all."""
    return values.sum() * ranks.world / count
