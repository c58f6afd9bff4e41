"""The log partition between two sets of rows: anchors on one side, candidates on the other.

For unit rows A [A, D] and C [C, D] and S = A C^T / tau,

    lse_i = log sum_j w_ij exp(S_ij)        P_ij = w_ij exp(S_ij - lse_i)
    dL/dA = diag(g) P C / tau               dL/dC = (diag(g) P)^T A / tau      for g_i = dL/dlse_i

The sibling of ``log_partition`` for keys that are not the anchors themselves: a queue, another
network's keys, the rows of all ranks. S is visited in tiles and computed again going backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.objectives.fusing import fused_kernels
from coview.objectives.log_partition import is_plain
from coview.objectives.temperature import Temperature, as_number, slope
from coview.objectives.tiles import (
    PairLogWeights,
    Rectangles,
    refuse_second_derivative,
    tile_size,
)


def log_partition_between(
    anchors: Tensor,
    candidates: Tensor,
    temperature: Temperature,
    *,
    own: Tensor | None = None,
    log_weights: PairLogWeights | None = None,
    tile: int | None = None,
) -> Tensor:
    """log sum_j w_ij exp(a_i . c_j / tau) for every anchor i, w = 1 unless given.

    ``own`` names for every anchor one candidate that is left out, such as the anchor itself.
    ``log_weights`` (anchor slice, candidate slice) -> log w; -inf leaves a pair out.

    Shapes: anchors [A, D] and candidates [C, D] of unit length, both float32 or both float64, own
    int64 [A] -> [A]; -inf for an anchor without any candidate. Differentiable once, in
    both and in a temperature that is a tensor; the work for a side that needs no gradient is left
    away. Memory O((A + C) D + tile^2), forward and backward. Raises InvalidValue where widths or
    types differ.
    """
    if anchors.shape[1:] != candidates.shape[1:] or anchors.dtype != candidates.dtype:
        raise InvalidValue(
            f"The anchors are {anchors.dtype} {tuple(anchors.shape)}, the candidates "
            f"{candidates.dtype} {tuple(candidates.shape)}; they must have one type and width."
        )
    size = tile_size(anchors, tile)
    result: Tensor = _LogPartitionBetween.apply(
        anchors, candidates, temperature, own, log_weights, size
    )
    return result


class _LogPartitionBetween(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        temperature: Temperature,
        own: Tensor | None,
        log_weights: PairLogWeights | None,
        size: int,
    ) -> Tensor:
        number = as_number(temperature)
        kernels = fused_kernels(anchors, log_weights)
        if kernels is not None:
            lse: Tensor = kernels.partition(anchors, candidates, 1 / number, own)
        else:
            logits = Rectangles(anchors, candidates, 1 / number, own, size)
            lse = _partition(logits, number, log_weights)
        ctx.save_for_backward(anchors, candidates, own, lse)
        ctx.setting = (temperature, number, log_weights, size, kernels)
        return lse

    @staticmethod
    def backward(
        ctx: Any, upstream: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        refuse_second_derivative()
        anchors, candidates, own, lse = ctx.saved_tensors
        temperature, number, log_weights, size, kernels = ctx.setting
        # The temperature's slope is read off the anchors' gradient.
        needed = (ctx.needs_input_grad[0] or ctx.needs_input_grad[2], ctx.needs_input_grad[1])
        # An anchor without candidates has lse = -inf and P = 0, not exp(-inf + inf).
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)
        if kernels is not None:
            pair = (anchors, candidates, 1 / number, own, lse, upstream)
            to_anchors = kernels.to_anchors(*pair) if needed[0] else None
            to_candidates = kernels.to_candidates(*pair) if needed[1] else None
        else:
            logits = Rectangles(anchors, candidates, 1 / number, own, size)
            to_anchors, to_candidates = _gradients(
                logits, number, log_weights, lse, upstream, needed
            )
        to_temperature = (
            slope(temperature, number, anchors, to_anchors, degree=1)
            if to_anchors is not None
            else None
        )
        return to_anchors, to_candidates, to_temperature, None, None, None


def _partition(
    logits: Rectangles, temperature: float, log_weights: PairLogWeights | None
) -> Tensor:
    if is_plain(temperature, log_weights):
        return _plain_partition(logits)
    return _guarded_partition(logits, log_weights)


def _gradients(
    logits: Rectangles,
    temperature: float,
    log_weights: PairLogWeights | None,
    lse: Tensor,
    upstream: Tensor,
    needed: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    anchors, candidates = logits.anchors, logits.candidates
    to_anchors = torch.zeros_like(anchors) if needed[0] else None
    to_candidates = torch.zeros_like(candidates) if needed[1] else None
    plain = is_plain(temperature, log_weights)
    share = upstream * torch.exp(-lse) if plain else upstream
    for a, c, tile in logits:
        if not plain:
            tile.sub_(lse[a, None])
        if log_weights is not None:
            tile.add_(log_weights(a, c))
        weights = tile.exp_().mul_(share[a, None])
        if to_anchors is not None:
            to_anchors[a].addmm_(weights, candidates[c], alpha=logits.scale)
        if to_candidates is not None:
            to_candidates[c].addmm_(weights.T, anchors[a], alpha=logits.scale)
    return to_anchors, to_candidates


def _plain_partition(logits: Rectangles) -> Tensor:
    total = logits.anchors.new_zeros(len(logits.anchors))
    for a, _, tile in logits:
        total[a] += tile.exp_().sum(1)
    return total.log_()


def _guarded_partition(logits: Rectangles, log_weights: PairLogWeights | None) -> Tensor:
    lse = logits.anchors.new_full((len(logits.anchors),), -torch.inf)
    for a, c, tile in logits:
        weighted = tile if log_weights is None else tile.add_(log_weights(a, c))
        lse[a] = torch.logaddexp(lse[a], weighted.logsumexp(1))
    return lse
