"""How unlike all others a vector is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.progress import progress
from coview.embeddings.neighbors import neighbors

NEIGHBORS = 50
"""With 10, a group of more than 10 images from elsewhere that are alike is not found: each of them
has its neighbors in the group (docs/benchmarks/results/map.md)."""
MAX_BANK = 5_000
"""Rows among which neighbors are looked for; of more rows so many are drawn. That is faster and
finds as many outliers or more: of a group of 1 % of the images, 50 are drawn."""
CHUNK = 4096


def outlier_scores(
    rows: Tensor, *, k: int | None = None, max_bank: int = MAX_BANK, seed: int = 0
) -> npt.NDArray[np.float32]:
    """The mean cosine distance, 1 - cosine, of each row to its k nearest others, float32 [N].

    In 0 .. 2; high = unlike all others. A row is no neighbor of itself. ``k`` is 50 by default, of
    fewer than 500 rows a tenth of them. Above ``max_bank`` rows the
    neighbors are looked for among that number of them, drawn by ``seed``, so that the time grows
    as N and not as N^2. Shapes: rows float [N, D], N >= 2. Raises InvalidValue.
    Source: Ramaswamy et al., "Efficient algorithms for mining outliers from large data sets", 2000,
    with the mean over k neighbors of Angiulli and Pizzuti, 2002.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]])
    >>> int(outlier_scores(rows, k=2).argmax())
    3
    """
    count = len(rows)
    if k is None:
        k = min(NEIGHBORS, max(1, count // 10))
    if count < 2 or k < 1:
        raise InvalidValue(
            f"There are {count} rows and `k` is {k}; outliers need at least 2 rows and 1 neighbor."
        )
    drawn = np.arange(count)
    if count > max_bank:
        drawn = np.sort(np.random.default_rng(seed).choice(count, max_bank, replace=False))
    others = np.setdiff1d(np.arange(count), drawn)
    bank = rows[torch.from_numpy(drawn)]
    scores = np.empty(count, np.float32)
    with progress("Outliers", count) as advance:
        for start in range(0, len(drawn), CHUNK):
            part = drawn[start : start + CHUNK]
            own = torch.arange(start, start + len(part))
            scores[part] = _mean_distance(bank, rows[torch.from_numpy(part)], k, own)
            advance(len(part))
        for start in range(0, len(others), CHUNK):
            part = others[start : start + CHUNK]
            scores[part] = _mean_distance(bank, rows[torch.from_numpy(part)], k, None)
            advance(len(part))
    return scores


def _mean_distance(
    bank: Tensor, queries: Tensor, k: int, own: Tensor | None
) -> npt.NDArray[np.float32]:
    cosines, _ = neighbors(bank, queries, k, exclude=own)
    distances: npt.NDArray[np.float32] = (1 - cosines.clamp(-1, 1)).mean(1).numpy()
    return distances
