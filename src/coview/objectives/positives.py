"""Which rows are positives of which: the row-stochastic targets T of SupCon, never held whole.

Rows are view-major (row v * B + b is view v of image b). A row is never its own positive. With
several ranks the rows of T are this rank's anchors and its columns the candidates of all ranks.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.objectives.gathered import Gathered
from coview.objectives.inputs import integers
from coview.objectives.log_partition import (
    PairLogWeights,
    refuse_second_derivative,
    slices,
    tile_size,
)

UNLABELED = -1


class Positives(Protocol):
    """The targets T [A, M], A anchors and M = V * B candidates, rows summing to 1 or 0."""

    @property
    def has_positive(self) -> Tensor:
        """bool [A]: whether the anchor has a positive."""
        ...

    @property
    def log_candidates(self) -> PairLogWeights | None:
        """-inf where a pair is not part of the denominator; None where all pairs are."""
        ...

    def average(self, candidates: Tensor) -> Tensor:
        """T Z: the weighted mean of every anchor's positives, zero without positives. [A, D]."""
        ...

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        """A tile of log T."""
        ...


class SameLabel:
    """Positives are all other rows of the same label; those of an unlabeled image its other views.

    T_ij = 1 / #P(i) on P(i) = {j != i: y_j = y_i}. The labels [B] are those of all ranks.
    """

    log_candidates: PairLogWeights | None = None

    def __init__(self, labels: Tensor, batch: Gathered) -> None:
        self.batch = batch
        self.group = group_indices(labels).repeat(batch.views)
        count = positive_counts(labels, batch.views).to(batch.anchors.dtype)
        self.count, self.anchor_group = batch.local(count), batch.local(self.group)

    @property
    def has_positive(self) -> Tensor:
        return self.count > 0

    def average(self, candidates: Tensor) -> Tensor:
        sums = torch.zeros_like(candidates).index_add(0, self.group, candidates)
        others = sums[self.anchor_group] - self.batch.anchors
        return others / self.count.clamp_min(1)[:, None]

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        log_share = -self.count[anchors].clamp_min(1).log()[:, None]
        return log_share.where(self.anchor_group[anchors, None] == self.group[keys], -torch.inf)


class Weighted:
    """Positives weighted by the pairwise weights w [b, B] >= 0 of this rank's images with all.

    T_ij = w_ab / sum over the other rows, for rows i != j of images a and b. The diagonal w_aa is
    the weight of each other view of the image itself.
    """

    log_candidates: PairLogWeights | None = None

    def __init__(self, weights: Tensor, batch: Gathered) -> None:
        others = weights.detach().to(batch.anchors.dtype, copy=True)
        diagonal = others[:, batch.local_slice].diagonal()
        own = diagonal.clone()
        diagonal.zero_()
        total = batch.views * others.sum(1) + (batch.views - 1) * own
        total_or_one = total.where(total > 0, 1)
        self.batch = batch
        self.has_positive = (total > 0).repeat(batch.views)
        self.own = own / total_or_one
        self.others = others / total_or_one[:, None]

    def average(self, candidates: Tensor) -> Tensor:
        batch, width = self.batch, candidates.shape[1]
        sums = candidates.view(batch.views, -1, width).sum(0)
        anchors = batch.anchors.view(batch.views, -1, width)
        other_views = sums[batch.local_slice] - anchors
        return (self.others @ sums + self.own[:, None] * other_views).flatten(0, 1)

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        anchor_images = self.batch.anchor_images()[anchors, None]
        images = torch.arange(self.batch.images, device=anchor_images.device)
        key_images = images.repeat(self.batch.views)[keys]
        row = anchor_images - self.batch.local_slice.start
        own, others = self.own[row], self.others[row, key_images]
        return torch.where(anchor_images == key_images, own, others).log_()


class SharedLabels:
    """Positives share at least one label; ``cap`` bounds how many of them an anchor keeps.

    Labels of all ranks: integers [B] (-1 = unlabeled) or marks [B, C], above 0 where image b has
    label c. The positives of an image without a mark are its other views. A cap keeps first the
    anchor's other views (all of them, even more than the cap), then rows of other images in the
    order of the candidates. The other positives leave the denominator too.

    T_ij = 1 / (number of positives that i keeps). Works in tiles: O(V B^2) comparisons once, memory
    O(V B D + tile^2).
    """

    def __init__(self, labels: Tensor, cap: int | None, batch: Gathered) -> None:
        self.batch, self.cap = batch, cap
        self.size = tile_size(batch.anchors)
        self.marks = (labels > 0).to(batch.anchors.dtype) if labels.ndim == 2 else None
        self.group = group_indices(labels) if labels.ndim == 1 else None
        self.anchor_image, self.anchor_row = batch.anchor_images(), batch.anchor_rows()
        images = torch.arange(batch.images, device=labels.device)
        self.row = torch.arange(batch.views * batch.images, device=labels.device)
        self.image = images.repeat(batch.views)
        room = len(self.row) if cap is None else max(cap - (batch.views - 1), 0)
        others, limit = self._count_others(images, room)
        count = others.clamp_max(room) + (batch.views - 1)
        self.count = count.to(batch.anchors.dtype).repeat(batch.views)
        self.limit = limit.repeat(batch.views)

    @property
    def has_positive(self) -> Tensor:
        return self.count > 0

    @property
    def log_candidates(self) -> PairLogWeights | None:
        return None if self.cap is None else self._log_candidates

    def average(self, candidates: Tensor) -> Tensor:
        averages: Tensor = _TiledAverage.apply(candidates, self, len(self.anchor_row), self.size)
        return averages

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        """A tile of log T: finite where the key is a positive that the cap keeps."""
        positive = self.row[keys] < self.limit[anchors, None]
        positive &= self._share_label(self.anchor_image[anchors], self.image[keys])
        positive |= self.anchor_image[anchors, None] == self.image[keys]
        positive &= self.anchor_row[anchors, None] != self.row[keys]
        log_share = -self.count[anchors].clamp_min(1).log()[:, None]
        return log_share.where(positive, -torch.inf)

    def _log_candidates(self, anchors: slice, keys: slice) -> Tensor:
        """A tile of the denominator: -inf where the key is a positive beyond the cap."""
        surplus = self._share_label(self.anchor_image[anchors], self.image[keys])
        surplus &= self.row[keys] >= self.limit[anchors, None]
        surplus &= self.anchor_image[anchors, None] != self.image[keys]
        return torch.zeros_like(surplus, dtype=self.count.dtype).masked_fill_(surplus, -torch.inf)

    def _share_label(self, a: Tensor, b: Tensor) -> Tensor:
        """Whether images a and b share a label; True for an image and itself, even unlabeled."""
        if self.group is not None:
            return self.group[a, None] == self.group[b]
        assert self.marks is not None
        return (self.marks[a] @ self.marks[b].T > 0).logical_or_(a[:, None] == b)

    def _count_others(self, images: Tensor, room: int) -> tuple[Tensor, Tensor]:
        """For this rank's images: the number of rows of other images that share a label, and the
        row before which the first ``room`` of them lie. int64 [b] each."""
        local = images[self.batch.local_slice]
        count, limit = torch.zeros_like(local), torch.zeros_like(local)
        for a in slices(len(local), self.size):
            for keys in slices(len(self.row), self.size):
                other_image = local[a, None] != self.image[keys]
                others = self._share_label(local[a], self.image[keys]).logical_and_(other_image)
                running = others.cumsum(1) + count[a, None]
                limit[a] += (running <= room).sum(1)
                count[a] += others.sum(1)
        return count, limit


class _TiledAverage(torch.autograd.Function):
    """T Z and T^T G, with T computed in tiles in both passes."""

    @staticmethod
    def forward(
        ctx: Any, candidates: Tensor, positives: SharedLabels, anchors: int, size: int
    ) -> Tensor:
        ctx.setting = (positives, anchors, size, candidates.shape)
        averages = candidates.new_zeros(anchors, candidates.shape[1])
        for a in slices(anchors, size):
            for c in slices(len(candidates), size):
                averages[a].addmm_(positives.log_targets(a, c).exp_(), candidates[c])
        return averages

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative()
        positives, anchors, size, shape = ctx.setting
        gradient = upstream.new_zeros(shape)
        for a in slices(anchors, size):
            for c in slices(shape[0], size):
                gradient[c].addmm_(positives.log_targets(a, c).exp_().T, upstream[a])
        return gradient, None, None, None


def group_indices(labels: Tensor) -> Tensor:
    """Labels as indices 0 .. B-1; every -1 gets its own index. Never waits for the device.

    Shapes: integer [B] -> int64 [B].
    """
    ordered, order = labels.sort(stable=True)
    starts = torch.ones_like(ordered, dtype=torch.int64)
    starts[1:] = (ordered[1:] != ordered[:-1]) | (ordered[1:] == UNLABELED)
    return torch.empty_like(starts).scatter_(0, order, starts.cumsum(0) - 1)


def positive_counts(labels: Tensor, views: int) -> Tensor:
    """#P(i) of every row: the number of other rows that have its label or show its image.

    Shapes: integer [B], -1 = unlabeled -> int64 [views * B].

    >>> import torch
    >>> positive_counts(torch.tensor([7, 7, 3, -1]), views=2)
    tensor([3, 3, 1, 1, 3, 3, 1, 1])
    """
    group = group_indices(labels)
    sizes = torch.zeros_like(group).index_add(0, group, torch.ones_like(group))
    return (views * sizes[group] - 1).repeat(views)


def checked_labels(labels: Any, images: int, device: torch.device) -> Tensor:
    """The labels as a tensor: an integer for each image, or a row of marks.

    Marks [B, C] say which of C >= 2 labels an image has. A single column is refused, because it is
    more likely a list of labels in the wrong shape. Raises InvalidValue.
    """
    is_marks = isinstance(labels, Tensor) and labels.ndim == 2 and labels.shape[1] >= 2
    if is_marks and len(labels) == images and not labels.is_complex() and labels.device == device:
        return cast(Tensor, labels)
    numbers = integers(labels, "labels", device)
    if numbers.shape != (images,):
        raise InvalidValue(
            f"`labels` have the shape {tuple(numbers.shape)}; expected one integer for each "
            f"of the {images} images, -1 where unknown, or marks [{images}, classes]."
        )
    return numbers


def check_weights(weights: Tensor, local_images: int, images: int) -> None:
    """Raises InvalidValue unless weights are a finite non-negative matrix between the images."""
    if weights.shape != (local_images, images):
        raise InvalidValue(
            f"`weights` have shape {tuple(weights.shape)}; expected [{local_images}, {images}], "
            "one weight for each pair of images."
        )
    if not bool(((weights >= 0) & (weights < torch.inf)).all()):
        raise InvalidValue("`weights` must all be finite and at least 0.")
