"""How vectors lie on the sphere: figures of representations that need no labels.

All but :func:`rank_me` scale rows to unit length. Rows [N, D] are of N images; of two tensors row i
belongs to image i in both. A figure is NaN where its input is not finite.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import normalize

RANK_EPSILON = 1e-7  # as in RankMe
TIE = 1e-6  # float32 cosines of unit rows that differ by less are equal up to rounding


def feature_std(rows: torch.Tensor) -> float:
    """sqrt(1 - |mean unit row|^2), in 0 (equal directions) .. 1 (mean zero). rows [n, d].

    sqrt(d) times the root mean square over columns of the standard deviation of the unit rows,
    which SimSiam uses to detect collapse (Chen and He 2021, section 4.1).

    >>> feature_std(torch.ones(4, 3)), feature_std(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    (0.0, 1.0)
    """
    unit = normalize(rows.double(), dim=1)
    return float((unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt())


def rank_me(rows: torch.Tensor) -> float:
    """exp(entropy of the singular values of rows [n, d]), in 1 .. min(n, d); rows not centered.

    RankMe (Garrido et al. 2023, section 3): p_k = s_k / sum(s) + 1e-7. Comparable between
    checkpoints of one run and between runs of one method with equal n, not between methods.

    >>> round(rank_me(torch.eye(8)), 3)
    8.0
    """
    if not rows.isfinite().all():
        return float("nan")
    # In float64 the smaller Gram matrix gives singular values to about 1e-8 of the largest.
    tall = rows.double() if rows.shape[0] >= rows.shape[1] else rows.double().T
    return float(effective_rank(torch.linalg.eigvalsh(tall.T @ tall)))


def effective_rank(squares: torch.Tensor) -> torch.Tensor:
    """exp(entropy) of singular values, given their squares: [..., K] -> [...].

    >>> effective_rank(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).round(decimals=3)
    tensor([2., 1.])
    """
    values = squares.clamp_min(0).sqrt()
    shares = values / values.sum(-1, keepdim=True).clamp_min(1e-300) + RANK_EPSILON
    return (-(shares * shares.log()).sum(-1)).exp()


def alignment(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean |z1 - z2|^2 of unit rows of positive pairs, in 0 .. 4 (Wang and Isola 2020, 4.1.1).

    >>> alignment(torch.eye(2), -torch.eye(2))
    4.0
    """
    return float(pair_distances(first, second).mean())


def pair_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """|z1 - z2|^2 of unit rows, each pair's: float64 [N] in 0 .. 4.

    >>> pair_distances(torch.eye(2), 2 * torch.eye(2))
    tensor([0., 0.], dtype=torch.float64)
    """
    difference = normalize(first.double(), dim=1) - normalize(second.double(), dim=1)
    return difference.square().sum(dim=1)


def uniformity(rows: torch.Tensor, *, chunk: int = 1024) -> float:
    """ln of the mean exp(-2 |z_i - z_j|^2) over pairs i != j of unit rows, in -8 .. 0.

    Wang and Isola 2020, section 4.1.2, with t = 2; 0 = all identical, lower = more uniform.

    >>> round(uniformity(torch.eye(2)), 6)
    -4.0
    """
    unit, n = normalize(rows.float(), dim=1), len(rows)
    total = 0.0
    for start in range(0, n, chunk):
        near = (4 * (unit[start : start + chunk] @ unit.T) - 4).exp()
        near.diagonal(start).zero_()
        total += float(near.sum(dtype=torch.float64))
    return math.log(total / (n * (n - 1))) if total > 0 else float("nan")


def instance_accuracy(queries: torch.Tensor, keys: torch.Tensor, *, chunk: int = 1024) -> float:
    """Share of queries whose most similar key (cosine) is of the same image; ties share the hit.

    The accuracy of instance discrimination (Wu et al. 2018). Shapes: queries, keys float [N, D],
    row i of both from image i. Chance is 1 / N, the value for identical rows. NaN where an input
    is not finite.

    >>> instance_accuracy(torch.eye(4), torch.eye(4).roll(1, 0))
    0.0
    """
    if not (queries.isfinite().all() and keys.isfinite().all()):
        return float("nan")
    return float(instance_hits(queries, keys, chunk=chunk).sum()) / len(queries)


def instance_hits(
    queries: torch.Tensor, keys: torch.Tensor, *, by_cosine: bool = True, chunk: int = 1024
) -> torch.Tensor:
    """The hit of each query, float64 [N]: 1 if its nearest key is of its image, 1 / n of n ties.

    ``by_cosine`` False: by the dot product, in which a long row is near to many.

    >>> instance_hits(torch.eye(2), torch.eye(2))
    tensor([1., 1.], dtype=torch.float64)
    >>> keys = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    >>> instance_hits(torch.eye(2), keys, by_cosine=False)
    tensor([0., 1.], dtype=torch.float64)
    """
    if by_cosine:
        queries, keys = normalize(queries, dim=1), normalize(keys, dim=1)
    else:  # one factor for all rows changes no order, and ties are those of cosines
        queries, keys = (
            rows / rows.norm(dim=1).amax().clamp_min(torch.finfo(rows.dtype).tiny)
            for rows in (queries, keys)
        )
    hits = []
    for start in range(0, len(queries), chunk):
        similarities = queries[start : start + chunk] @ keys.T
        own, highest = similarities.diagonal(start), similarities.amax(dim=1)
        best = similarities >= highest[:, None] - TIE
        won = best.diagonal(start) & (own >= highest - TIE)
        hits.append((won / best.sum(dim=1)).cpu().double())
    return torch.cat(hits)
