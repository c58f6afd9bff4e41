"""The one quadratic computation of the contrastive objectives, in linear memory.

For unit rows A [A, D] (anchors) and C [C, D] (candidates) and S = A C^T / tau,

    lse_i = log sum_j w_ij exp(S_ij)        P_ij = w_ij exp(S_ij - lse_i)
    dL/dA = diag(g) P C / tau               dL/dC = (diag(g) P)^T A / tau      for g_i = dL/dlse_i

S is visited in tiles, and the backward pass computes the tiles again, so memory holds A, C, lse and
single tiles. Where the anchors are the candidates, S is symmetric: only tiles on and above the
diagonal are visited, S_ii is left out, and dL/dZ = (diag(g) P + P^T diag(g)) Z / tau. Together with
the linear positive terms that autograd differentiates, this gives ((P - T) + (P - T)^T) Z / (tau M)
for every objective that compares a softmax with row-stochastic targets T.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from coview.core.errors import InvalidValue, MissingExtra
from coview.objectives.inputs import Temperature, as_number

PairLogWeights = Callable[[slice, slice], Tensor]
"""(anchor rows, candidate rows) -> log w [anchors, candidates]; -inf leaves a pair out."""

# 1024 x 1024 floats fit in a third-level cache. Smaller tiles are up to a tenth faster on an idle
# machine, but their many short operations are slow where loader threads use the cores.
# A GPU is faster with few large products.
CPU_TILE, GPU_TILE = 1024, 4096

# Unit rows bound the logits by 1 / tau. Up to exp(40) = 2e17, sums and quotients of plain
# exponentials stay far inside the range of float32, and no row maximum is needed.
PLAIN_EXPONENTIAL_LIMIT = 40.0

FUSED_LOSS = "COVIEW_FUSED_LOSS"
# Two blocks of rows and a gradient fit in registers up to this width.
MAX_FUSED_WIDTH = 256


def log_partition(
    anchors: Tensor, temperature: Temperature, *, candidates: Tensor | None = None,
    own: Tensor | None = None, log_weights: PairLogWeights | None = None, tile: int | None = None,
) -> Tensor:  # fmt: skip
    """log sum_j w_ij exp(a_i . c_j / tau) for every anchor i.

    ``candidates`` None: the anchors themselves, without j = i. ``own`` is the index of one
    candidate for every anchor that is left out, such as the anchor itself. ``log_weights``
    (anchor slice, candidate slice) -> log w; None means w = 1.

    Shapes: anchors [A, D] and candidates [C, D] of unit length (of any with ``log_weights``), both
    float32 or both float64, own int64 [A] -> [A]; -inf for an anchor without candidates.
    Differentiable once in both, and in a temperature that is a tensor; no work is done for
    candidates that require no gradient. Memory O((A + C) D + tile^2), forward and backward. Raises
    InvalidValue where widths or types differ.

    >>> rows = torch.eye(3)
    >>> log_partition(rows, 0.5).exp()
    tensor([2., 2., 2.])
    >>> log_partition(rows, 0.5, candidates=-rows[:1]).exp()
    tensor([0.1353, 1.0000, 1.0000])
    """
    if candidates is None:
        if own is not None:
            raise InvalidValue("`own` is an index into `candidates`, and these are None.")
    elif anchors.shape[1:] != candidates.shape[1:] or anchors.dtype != candidates.dtype:
        raise InvalidValue(
            f"`anchors` are {anchors.dtype} {tuple(anchors.shape)} and `candidates` "
            f"{candidates.dtype} {tuple(candidates.shape)}; expected one type and width."
        )
    size = tile_size(anchors, tile)
    lse: Tensor = _LogPartition.apply(anchors, candidates, temperature, own, log_weights, size)
    return lse


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor | None, temperature: Temperature,
        own: Tensor | None, log_weights: PairLogWeights | None, size: int,
    ) -> Tensor:  # fmt: skip
        tau = as_number(temperature)
        kernels = fused_kernels(anchors, log_weights)
        if kernels is None:
            tiles = Tiles(anchors, candidates, 1 / tau, own, size)
            lse = _log_sums(tiles, tau, log_weights)
        elif candidates is None:
            lse = kernels.partition(anchors, anchors, 1 / tau, _row_indices(anchors))
        else:
            lse = kernels.partition(anchors, candidates, 1 / tau, own)
        ctx.save_for_backward(anchors, candidates, own, lse)
        ctx.setting = (temperature, tau, log_weights, size, kernels)
        return lse

    @staticmethod
    def backward(
        ctx: Any, upstream: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        refuse_second_derivative()
        anchors, candidates, own, lse = ctx.saved_tensors
        temperature, tau, log_weights, size, kernels = ctx.setting
        # The gradient of the temperature is computed from that of the anchors.
        needed = (ctx.needs_input_grad[0] or ctx.needs_input_grad[2], ctx.needs_input_grad[1])
        # An anchor without candidates has lse = -inf and P = 0, not exp(-inf + inf).
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)
        if kernels is None:
            tiles = Tiles(anchors, candidates, 1 / tau, own, size)
            gradients = _gradients(tiles, tau, log_weights, lse, upstream, needed)
        elif candidates is None:
            indices = _row_indices(anchors)
            gradients = (kernels.to_rows(anchors, 1 / tau, indices, lse, upstream), None)
        else:
            arguments = (anchors, candidates, 1 / tau, own, lse, upstream)
            gradients = (
                kernels.to_anchors(*arguments) if needed[0] else None,
                kernels.to_candidates(*arguments) if needed[1] else None,
            )
        to_temperature = None
        if isinstance(temperature, Tensor) and gradients[0] is not None:
            # Scaling A by s, or both sides by sqrt(s) where they are one, divides tau by s. By
            # Euler's theorem dL/dtau = -<A, dL/dA> / (tau degree), with degree 2 for one side.
            degree = 2 if candidates is None else 1
            to_temperature = (anchors * gradients[0]).sum().to(temperature) / (-degree * tau)
        return *gradients, to_temperature, None, None, None


def is_plain(tau: float, log_weights: PairLogWeights | None) -> bool:
    """Whether exponentials of the logits of unit rows may be summed without a row maximum."""
    return log_weights is None and 1 / tau <= PLAIN_EXPONENTIAL_LIMIT


def _log_sums(tiles: Tiles, tau: float, log_weights: PairLogWeights | None) -> Tensor:
    """lse [A].

    The last operation is not in place: of an output that is computed in place, a function that
    torch 2.11 has compiled keeps the values from before for its backward pass.
    """
    count = len(tiles.anchors)
    if is_plain(tau, log_weights):
        total = tiles.anchors.new_zeros(count)
        for a, c, tile in tiles:
            exponentials = tile.exp_()
            total[a] += exponentials.sum(1)
            if tiles.symmetric and a != c:
                total[c] += exponentials.sum(0)
        return total.log()
    lse = tiles.anchors.new_full((count,), -torch.inf)
    for a, c, tile in tiles:
        forth, back = _weighted(tiles, a, c, tile, log_weights)
        lse[a] = torch.logaddexp(lse[a], forth.logsumexp(1))
        if tiles.symmetric and a != c:
            lse[c] = torch.logaddexp(lse[c], back.logsumexp(0))
    return lse.clone()


def _gradients(
    tiles: Tiles, tau: float, log_weights: PairLogWeights | None, lse: Tensor, upstream: Tensor,
    needed: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """dL/dA and dL/dC, each where needed; dL/dZ and None where the anchors are the candidates."""
    anchors, candidates = tiles.anchors, tiles.candidates
    to_anchors = torch.zeros_like(anchors) if needed[0] else None
    to_candidates = torch.zeros_like(candidates) if needed[1] else None
    # For one set of rows, the division by tau comes last, for all tiles at once.
    alpha = 1.0 if tiles.symmetric else tiles.scale
    for a, c, weights in _pair_gradients(tiles, tau, log_weights, lse, upstream):
        if to_anchors is not None:
            to_anchors[a].addmm_(weights, candidates[c], alpha=alpha)
            if tiles.symmetric and a != c:
                to_anchors[c].addmm_(weights.T, anchors[a])
        if to_candidates is not None:
            to_candidates[c].addmm_(weights.T, anchors[a], alpha=alpha)
    if tiles.symmetric and to_anchors is not None:
        to_anchors.div_(tau)
    return to_anchors, to_candidates


def _pair_gradients(
    tiles: Tiles, tau: float, log_weights: PairLogWeights | None, lse: Tensor, upstream: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of diag(g) P; of diag(g) P + P^T diag(g) where the anchors are the candidates."""
    plain = is_plain(tau, log_weights)
    g = upstream * torch.exp(-lse) if plain else upstream
    for a, c, tile in tiles:
        if plain:  # exp(S_ij - lse_i) g_i + exp(S_ij - lse_j) g_j with one exponential
            yield a, c, tile.exp_().mul_(g[a, None] + g[c] if tiles.symmetric else g[a, None])
            continue
        forth, back = _weighted(tiles, a, c, tile, log_weights)
        transposed = torch.exp(back - lse[c]) if tiles.symmetric else None
        weights = forth.sub_(lse[a, None]).exp_().mul_(g[a, None])
        yield a, c, weights if transposed is None else weights.addcmul_(transposed, g[None, c])


def _weighted(
    tiles: Tiles, a: slice, c: slice, tile: Tensor, log_weights: PairLogWeights | None
) -> tuple[Tensor, Tensor]:
    """Logits with the weight of c as candidate of a and, if symmetric, of a as candidate of c."""
    if log_weights is None:
        return tile, tile
    back = tile + log_weights(c, a).T if tiles.symmetric else tile
    return tile.add_(log_weights(a, c)), back


class Tiles:
    """Iterates over the tiles (a, c, scale A[a] C[c]^T), with -inf at the candidates left out.

    Shapes: anchors [A, D], candidates [C, D], own int64 [A] (an index into the candidates) or None.
    Without candidates these are the anchors: S is symmetric, only the tiles with c >= a are
    visited, and the diagonal is left out. All tiles share one buffer, so the next tile overwrites
    the last one.
    """

    def __init__(
        self, anchors: Tensor, candidates: Tensor | None, scale: float, own: Tensor | None,
        size: int,
    ) -> None:  # fmt: skip
        self.symmetric = candidates is None
        self.anchors, self.candidates = anchors, anchors if candidates is None else candidates
        self.scale, self.own, self.size = scale, own, size

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        columns = slices(len(self.candidates), self.size)
        buffer = self.anchors.new_empty(
            min(self.size, len(self.anchors)) * min(self.size, len(self.candidates))
        )
        for first, a in enumerate(slices(len(self.anchors), self.size)):
            for c in columns[first:] if self.symmetric else columns:
                height, width = a.stop - a.start, c.stop - c.start
                tile = buffer[: height * width].view(height, width)
                torch.addmm(
                    tile, self.anchors[a], self.candidates[c].T, beta=0, alpha=self.scale, out=tile
                )
                if self.own is not None:
                    _leave_out(tile, self.own[a] - c.start)
                elif self.symmetric and a == c:
                    # Not fill_diagonal_: torch.compile refuses its as_strided.
                    diagonal = torch.arange(height, device=tile.device)[:, None]
                    tile.scatter_(1, diagonal, -torch.inf)
                yield a, c, tile


def _leave_out(tile: Tensor, columns: Tensor) -> None:
    """Write -inf into one column of every row if the tile has it; the host does not wait."""
    # By a number: with a tensor a repeatable scatter_ on CUDA waits in older torch, and sorts.
    inside = (columns >= 0) & (columns < tile.shape[1])
    first = tile[:, 0].masked_fill(columns == 0, -torch.inf)
    tile.scatter_(1, torch.where(inside, columns, 0)[:, None], -torch.inf)
    tile[:, 0] = first  # where the rows without such a column have written too


def tile_size(rows: Tensor, size: int | None = None) -> int:
    """The side of the tiles: ``size``, or the default of the device of ``rows``."""
    return size or (CPU_TILE if rows.device.type == "cpu" else GPU_TILE)


def slices(count: int, size: int) -> list[slice]:
    """0 .. count in slices of ``size``; the last one may be shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def refuse_second_derivative() -> None:
    """Raises InvalidValue inside a backward pass that is to be differentiated itself."""
    if torch.is_grad_enabled():
        raise InvalidValue(
            "The contrastive objectives have first derivatives only; "
            "call backward without create_graph=True."
        )


def fused_kernels(rows: Tensor, log_weights: PairLogWeights | None) -> ModuleType | None:
    """``coview.objectives.fused`` where COVIEW_FUSED_LOSS=1 is set and its kernels apply.

    They apply on a GPU, in float32, to rows at most 256 wide, where all pairs have weight 1:
    NT-Xent, SupCon (not its capped form, not the numerator of "in"), InfoNCE without ids.
    Everything else is computed in tiles. Raises MissingExtra without Triton.
    """
    if log_weights is not None or rows.dtype != torch.float32 or rows.shape[1] > MAX_FUSED_WIDTH:
        return None
    if os.environ.get(FUSED_LOSS) != "1" or not has_triton_backend(rows.device):
        return None
    try:
        import coview.objectives.fused as fused
    except ImportError as error:
        raise MissingExtra("triton", "triton", f"{FUSED_LOSS}=1") from error
    return fused


def has_triton_backend(device: torch.device) -> bool:
    return device.type == "cuda"


def _row_indices(rows: Tensor) -> Tensor:
    """0 .. M - 1: the index of every row among the candidates."""
    return torch.arange(len(rows), device=rows.device)
