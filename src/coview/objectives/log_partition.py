"""The one quadratic computation of the set objectives, in linear memory.

For unit rows Z [M, D] and S = Z Z^T / tau,

    lse_i = log sum_{j != i} w_ij exp(S_ij)          P_ij = w_ij exp(S_ij - lse_i)
    dL/dZ = (diag(g) P + P^T diag(g)) Z / tau        for g_i = dL/dlse_i

S is visited in square tiles, and since S is symmetric only those on and above the diagonal; the
backward pass computes the tiles again, so no more than Z, lse and single tiles are ever held.
A row is anchor and key at once, hence the transposed term. Together with the linear positive terms
that autograd differentiates, this gives ((P - T) + (P - T)^T) Z / (tau M) of every objective that
compares a softmax with row-stochastic targets T.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from coview.objectives.fusing import fused_kernels
from coview.objectives.temperature import Temperature, as_number, slope
from coview.objectives.tiles import (
    PairLogWeights,
    refuse_second_derivative,
    slices,
    tile_size,
)

# Unit rows bound the logits by 1 / tau: up to exp(40) = 2e17, sums and quotients of plain
# exponentials stay far inside the range of float32 and no row maximum is needed.
PLAIN_EXPONENTIAL_LIMIT = 40.0


def log_partition(
    rows: Tensor,
    temperature: Temperature,
    *,
    log_weights: PairLogWeights | None = None,
    tile: int | None = None,
) -> Tensor:
    """log sum_{j != i} w_ij exp(z_i . z_j / tau) for every row i, w = 1 unless given.

    Shapes: rows [M, D] of unit length, float32 or float64 -> [M]; -inf for a row without any key.
    Differentiable once in ``rows`` and in a temperature that is a tensor. Memory O(M D + tile^2),
    forward and backward.
    """
    result: Tensor = _LogPartition.apply(rows, temperature, log_weights, tile_size(rows, tile))
    return result


def is_plain(temperature: float, log_weights: PairLogWeights | None) -> bool:
    """Whether exponentials of the logits of unit rows may be summed without a row maximum."""
    return log_weights is None and 1 / temperature <= PLAIN_EXPONENTIAL_LIMIT


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        rows: Tensor,
        temperature: Temperature,
        log_weights: PairLogWeights | None,
        size: int,
    ) -> Tensor:
        number = as_number(temperature)
        kernels = fused_kernels(rows, log_weights)
        logits = _Logits(rows, number, size)
        if kernels is not None:
            lse: Tensor = kernels.partition(rows, rows, 1 / number, _themselves(rows))
        elif is_plain(number, log_weights):
            lse = _plain_partition(logits)
        else:
            lse = _guarded_partition(logits, log_weights)
        ctx.save_for_backward(rows, lse)
        ctx.setting = (temperature, number, log_weights, size, kernels)  # type: ignore[attr-defined]
        return lse

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, upstream: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        refuse_second_derivative()
        rows, lse = ctx.saved_tensors  # type: ignore[attr-defined]
        temperature, number, log_weights, size, kernels = ctx.setting  # type: ignore[attr-defined]
        # A row without keys has lse = -inf and P = 0, not exp(-inf + inf).
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)
        if kernels is not None:
            gradient: Tensor = kernels.to_rows(rows, 1 / number, _themselves(rows), lse, upstream)
        else:
            gradient = _gradient(_Logits(rows, number, size), log_weights, lse, upstream)
        return gradient, slope(temperature, number, rows, gradient, degree=2), None, None


def _themselves(rows: Tensor) -> Tensor:
    """Every row's own place among the keys."""
    return torch.arange(len(rows), device=rows.device)


def _plain_partition(logits: _Logits) -> Tensor:
    total = logits.rows.new_zeros(len(logits.rows))
    for a, b, tile in logits:
        exponentials = tile.exp_()
        total[a] += exponentials.sum(1)
        if a != b:
            total[b] += exponentials.sum(0)
    return total.log_()


def _guarded_partition(logits: _Logits, log_weights: PairLogWeights | None) -> Tensor:
    lse = logits.rows.new_full((len(logits.rows),), -torch.inf)
    for a, b, tile in logits:
        forth, back = _weighted(tile, a, b, log_weights)
        lse[a] = torch.logaddexp(lse[a], forth.logsumexp(1))
        if a != b:
            lse[b] = torch.logaddexp(lse[b], back.logsumexp(0))
    return lse


def _gradient(
    logits: _Logits, log_weights: PairLogWeights | None, lse: Tensor, upstream: Tensor
) -> Tensor:
    rows = logits.rows
    gradient = torch.zeros_like(rows)
    for a, b, weights in _pair_gradients(logits, log_weights, lse, upstream):
        gradient[a].addmm_(weights, rows[b])
        if a != b:
            gradient[b].addmm_(weights.T, rows[a])
    return gradient.div_(logits.temperature)


def _pair_gradients(
    logits: _Logits, log_weights: PairLogWeights | None, lse: Tensor, upstream: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of diag(g) P + P^T diag(g)."""
    plain = is_plain(logits.temperature, log_weights)
    share = upstream * torch.exp(-lse) if plain else upstream
    for a, b, tile in logits:
        if plain:  # exp(S_ij - lse_i) g_i + exp(S_ij - lse_j) g_j with one exponential
            yield a, b, tile.exp_().mul_(share[a, None] + share[b])
        else:
            forth, back = _weighted(tile, a, b, log_weights)
            anchors = torch.exp(forth - lse[a, None]).mul_(share[a, None])
            yield a, b, anchors.addcmul_(torch.exp(back - lse[b]), share[None, b])


def _weighted(
    tile: Tensor, a: slice, b: slice, log_weights: PairLogWeights | None
) -> tuple[Tensor, Tensor]:
    """Logits with the weight of b as key of a, and with the weight of a as key of b."""
    if log_weights is None:
        return tile, tile
    return tile + log_weights(a, b), tile + log_weights(b, a).T


class _Logits:
    """Iterates over the tiles (a, b, S[a, b]), b >= a, with -inf on the diagonal of S.

    All tiles share one buffer: a tile is gone once the next is asked for.
    """

    def __init__(self, rows: Tensor, temperature: float, size: int) -> None:
        self.rows, self.temperature, self.size = rows, temperature, size

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        count = len(self.rows)
        size = min(self.size, count)
        parts = slices(count, size)
        buffer = self.rows.new_empty(size * size)
        for first, a in enumerate(parts):
            for b in parts[first:]:
                height, width = a.stop - a.start, b.stop - b.start
                tile = buffer[: height * width].view(height, width)
                torch.addmm(
                    tile, self.rows[a], self.rows[b].T, beta=0, alpha=1 / self.temperature, out=tile
                )
                if a == b:
                    tile.fill_diagonal_(-torch.inf)
                yield a, b, tile
