"""Which rows are positives of which: the row-stochastic targets T, without ever holding T.

Rows are view-major (row v * B + b is view v of image b). A row is never its own positive.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

UNLABELLED = -1


class Positives(Protocol):
    """The targets T [M, M] of M = V * B rows, zero on the diagonal, rows summing to 1 or 0."""

    @property
    def exist(self) -> Tensor:
        """bool [M]: whether the row has a positive at all."""
        ...

    def average(self, rows: Tensor) -> Tensor:
        """T Z: the weighted mean of every row's positives, zero where there are none. [M, D]."""
        ...

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        """A tile of log T."""
        ...


class SameLabel:
    """Positives are all other rows of the same label; an unlabelled image is alone with its views.

    T_ij = 1 / #P(i) on P(i) = {j != i: y_j = y_i}.
    """

    def __init__(self, labels: Tensor, views: int, dtype: torch.dtype) -> None:
        self.group = group_indices(labels).repeat(views)
        self.count = positive_counts(labels, views).to(dtype)

    @property
    def exist(self) -> Tensor:
        return self.count > 0

    def average(self, rows: Tensor) -> Tensor:
        sums = torch.zeros_like(rows).index_add(0, self.group, rows)
        return (sums[self.group] - rows) / self.count.clamp_min(1)[:, None]

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        shares = -self.count[anchors].clamp_min(1).log()[:, None]
        return shares.where(self.group[anchors, None] == self.group[keys], -torch.inf)


class Weighted:
    """Positives weighted by the images' pairwise weights w [B, B] >= 0.

    T_ij = w_ab / sum over the other rows, for rows i != j of images a and b. So the diagonal w_aa
    is the weight of each other view of the image itself.
    """

    def __init__(self, weights: Tensor, views: int, dtype: torch.dtype) -> None:
        weights = weights.detach().to(dtype)
        own = weights.diagonal().clone()
        others = weights.clone().fill_diagonal_(0)
        total = views * others.sum(1) + (views - 1) * own
        total_or_one = total.where(total > 0, 1)
        self.views, self.images = views, len(weights)
        self.exist = (total > 0).repeat(views)
        self.own = own / total_or_one
        self.others = others / total_or_one[:, None]

    def average(self, rows: Tensor) -> Tensor:
        by_view = rows.view(self.views, self.images, -1)
        sums = by_view.sum(0)
        return (self.others @ sums + self.own[:, None] * (sums - by_view)).flatten(0, 1)

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        places = torch.arange(self.views * self.images, device=self.own.device) % self.images
        a, b = places[anchors, None], places[keys]
        return torch.where(a == b, self.own[a], self.others[a, b]).log_()


def group_indices(labels: Tensor) -> Tensor:
    """Labels as indices 0 .. B-1; every -1 gets an index of its own. Never waits for the device.

    Shapes: integer [B] -> int64 [B].
    """
    ordered, order = labels.sort(stable=True)
    starts = torch.ones_like(ordered, dtype=torch.int64)
    starts[1:] = (ordered[1:] != ordered[:-1]) | (ordered[1:] == UNLABELLED)
    return torch.empty_like(starts).scatter_(0, order, starts.cumsum(0) - 1)


def positive_counts(labels: Tensor, views: int) -> Tensor:
    """#P(i) of every row: how many other rows carry its label (or show the same image).

    Shapes: integer [B], -1 = unlabelled -> int64 [views * B].
    """
    group = group_indices(labels)
    sizes = torch.zeros_like(group).index_add(0, group, torch.ones_like(group))
    return (views * sizes[group] - 1).repeat(views)


def check_labels(labels: Tensor, images: int) -> None:
    """Raises InvalidValue unless labels are one integer for each image."""
    if labels.shape != (images,) or labels.is_floating_point() or labels.is_complex():
        raise InvalidValue(
            f"The labels are {labels.dtype} {tuple(labels.shape)}; expected one integer for each "
            f"of the {images} images, -1 where unknown."
        )


def check_weights(weights: Tensor, images: int) -> None:
    """Raises InvalidValue unless weights are a finite non-negative matrix between the images."""
    if weights.shape != (images, images):
        raise InvalidValue(
            f"The weights have shape {tuple(weights.shape)}; expected [{images}, {images}], "
            "one weight for each pair of images."
        )
    if not bool(((weights >= 0) & (weights < torch.inf)).all()):
        raise InvalidValue("The weights between images must all be finite and not below 0.")
