"""Which rows are positives of which: the row-stochastic targets T, without ever holding T.

Rows are view-major (row v * B + b is view v of image b). A row is never its own positive. Over
several ranks T has this rank's anchors for rows and the candidates of all ranks for columns.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.objectives.gathered import Gathered
from coview.objectives.tiles import PairLogWeights

UNLABELED = -1


class Positives(Protocol):
    """The targets T [A, M], A anchors and M = V * B candidates, rows summing to 1 or 0."""

    @property
    def has_positive(self) -> Tensor:
        """bool [A]: whether the anchor has a positive at all."""
        ...

    @property
    def log_candidates(self) -> PairLogWeights | None:
        """-inf where a pair is no part of the denominator; None where all pairs are."""
        ...

    def average(self, candidates: Tensor) -> Tensor:
        """T Z: the weighted mean of every anchor's positives, zero where there are none. [A, D]."""
        ...

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        """A tile of log T."""
        ...


class SameLabel:
    """Positives are all other rows of the same label; an unlabeled image is alone with its views.

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
        shares = -self.count[anchors].clamp_min(1).log()[:, None]
        return shares.where(self.anchor_group[anchors, None] == self.group[keys], -torch.inf)


class Weighted:
    """Positives weighted by the pairwise weights w [b, B] >= 0 of this rank's images with all.

    T_ij = w_ab / sum over the other rows, for rows i != j of images a and b. So the diagonal w_aa
    is the weight of each other view of the image itself.
    """

    log_candidates: PairLogWeights | None = None

    def __init__(self, weights: Tensor, batch: Gathered) -> None:
        others = weights.detach().to(batch.anchors.dtype, copy=True)
        itself = others[:, batch.local_slice].diagonal()
        own = itself.clone()
        itself.zero_()
        total = batch.views * others.sum(1) + (batch.views - 1) * own
        total_or_one = total.where(total > 0, 1)
        self.batch = batch
        self.has_positive = (total > 0).repeat(batch.views)
        self.own = own / total_or_one
        self.others = others / total_or_one[:, None]

    def average(self, candidates: Tensor) -> Tensor:
        batch, width = self.batch, candidates.shape[1]
        sums = candidates.view(batch.views, -1, width).sum(0)
        mine = batch.anchors.view(batch.views, -1, width)
        other_views = sums[batch.local_slice] - mine
        return (self.others @ sums + self.own[:, None] * other_views).flatten(0, 1)

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        mine = self.batch.anchor_images()[anchors, None]
        images = torch.arange(self.batch.images, device=mine.device)
        theirs = images.repeat(self.batch.views)[keys]
        row = mine - self.batch.local_slice.start
        return torch.where(mine == theirs, self.own[row], self.others[row, theirs]).log_()


def group_indices(labels: Tensor) -> Tensor:
    """Labels as indices 0 .. B-1; every -1 gets an index of its own. Never waits for the device.

    Shapes: integer [B] -> int64 [B].
    """
    ordered, order = labels.sort(stable=True)
    starts = torch.ones_like(ordered, dtype=torch.int64)
    starts[1:] = (ordered[1:] != ordered[:-1]) | (ordered[1:] == UNLABELED)
    return torch.empty_like(starts).scatter_(0, order, starts.cumsum(0) - 1)


def positive_counts(labels: Tensor, views: int) -> Tensor:
    """#P(i) of every row: how many other rows carry its label (or show the same image).

    Shapes: integer [B], -1 = unlabeled -> int64 [views * B].
    """
    group = group_indices(labels)
    sizes = torch.zeros_like(group).index_add(0, group, torch.ones_like(group))
    return (views * sizes[group] - 1).repeat(views)


def check_labels(labels: Tensor, images: int) -> None:
    """Raises InvalidValue unless labels are an integer for each image, or a row of marks.

    Marks [B, C] say which of C >= 2 labels an image has; a single column would be a list of
    labels that has the wrong shape.
    """
    one_each = labels.shape == (images,) and not labels.is_floating_point()
    marks = labels.ndim == 2 and len(labels) == images and labels.shape[1] >= 2
    if labels.is_complex() or not (one_each or marks):
        raise InvalidValue(
            f"The labels are {labels.dtype} {tuple(labels.shape)}; expected one integer for each "
            f"of the {images} images, -1 where unknown, or marks [{images}, classes]."
        )


def check_weights(weights: Tensor, local_slice: int, images: int) -> None:
    """Raises InvalidValue unless weights are a finite non-negative matrix between the images."""
    if weights.shape != (local_slice, images):
        raise InvalidValue(
            f"The weights have shape {tuple(weights.shape)}; expected [{local_slice}, {images}], "
            "one weight for each pair of images."
        )
    if not bool(((weights >= 0) & (weights < torch.inf)).all()):
        raise InvalidValue("The weights between images must all be finite and not below 0.")
