"""Positives by labels where sums over groups do not do: several labels an image, or a cap."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from coview.objectives.gathered import Gathered
from coview.objectives.positives import group_indices
from coview.objectives.tiles import PairLogWeights, refuse_second_derivative, slices, tile_size


class SharedLabels:
    """Positives share at least one label; ``cap`` bounds how many of them an anchor keeps.

    Labels of all ranks: integers [B] (-1 = unlabeled) or marks [B, C], above 0 where image b has
    label c. An image without a mark is alone with its views. Within a cap come first the own other
    views, which are kept even beyond it, then the other images' rows from the first candidate on;
    a positive that is not kept leaves the denominator too.

    T_ij = 1 / #kept(i). Works in tiles: O(V B^2) comparisons once, memory O(V B D + tile^2).
    """

    def __init__(self, labels: Tensor, cap: int | None, batch: Gathered) -> None:
        self.batch, self.cap = batch, cap
        self.size = tile_size(batch.anchors)
        self.marks = (labels > 0).to(batch.anchors.dtype) if labels.ndim == 2 else None
        self.group = group_indices(labels) if labels.ndim == 1 else None
        self.mine, self.mine_row = batch.anchor_images(), batch.anchor_rows()
        images = torch.arange(batch.images, device=labels.device)
        self.row = torch.arange(batch.views * batch.images, device=labels.device)
        self.image = images.repeat(batch.views)
        room = len(self.row) if cap is None else max(cap - (batch.views - 1), 0)
        others, limit = self._others(images, room)
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
        averages: Tensor = _TiledAverage.apply(candidates, self, len(self.mine), self.size)
        return averages

    def log_targets(self, anchors: slice, keys: slice) -> Tensor:
        shares = -self.count[anchors].clamp_min(1).log()[:, None]
        return shares.where(self._kept(anchors, keys), -torch.inf)

    def _log_candidates(self, anchors: slice, keys: slice) -> Tensor:
        surplus = self._share(self.mine[anchors], self.image[keys])
        surplus &= self.row[keys] >= self.limit[anchors, None]
        surplus &= self.mine[anchors, None] != self.image[keys]
        return torch.zeros_like(surplus, dtype=self.count.dtype).masked_fill_(surplus, -torch.inf)

    def _kept(self, anchors: slice, keys: slice) -> Tensor:
        kept = self.row[keys] < self.limit[anchors, None]
        kept &= self._share(self.mine[anchors], self.image[keys])
        kept |= self.mine[anchors, None] == self.image[keys]
        kept &= self.mine_row[anchors, None] != self.row[keys]
        return kept

    def _share(self, a: Tensor, b: Tensor) -> Tensor:
        """Whether images a and b share a label; an image does with itself, labeled or not."""
        if self.group is not None:
            return self.group[a, None] == self.group[b]
        assert self.marks is not None
        return (self.marks[a] @ self.marks[b].T > 0).logical_or_(a[:, None] == b)

    def _others(self, images: Tensor, room: int) -> tuple[Tensor, Tensor]:
        """For this rank's images: how many rows of other images share a label, and the row before
        which the first ``room`` of them lie. int64 [b] each."""
        mine = images[self.batch.local_slice]
        count, limit = torch.zeros_like(mine), torch.zeros_like(mine)
        for a in slices(len(mine), self.size):
            for keys in slices(len(self.row), self.size):
                theirs = self.image[keys]
                others = self._share(mine[a], theirs).logical_and_(mine[a, None] != theirs)
                running = others.cumsum(1) + count[a, None]
                limit[a] += (running <= room).sum(1)
                count[a] += others.sum(1)
        return count, limit


class _Targets(Protocol):
    def log_targets(self, anchors: slice, keys: slice) -> Tensor: ...


class _TiledAverage(torch.autograd.Function):
    """T Z and T^T G, with T computed a tile at a time in both directions."""

    @staticmethod
    def forward(ctx: Any, candidates: Tensor, targets: _Targets, anchors: int, size: int) -> Tensor:
        ctx.setting = (targets, anchors, size, candidates.shape)
        averages = candidates.new_zeros(anchors, candidates.shape[1])
        for a in slices(anchors, size):
            for c in slices(len(candidates), size):
                averages[a].addmm_(targets.log_targets(a, c).exp_(), candidates[c])
        return averages

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative()
        targets, anchors, size, shape = ctx.setting
        gradient = upstream.new_zeros(shape)
        for a in slices(anchors, size):
            for c in slices(shape[0], size):
                gradient[c].addmm_(targets.log_targets(a, c).exp_().T, upstream[a])
        return gradient, None, None, None
