"""A 2-D map of vectors."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue

MIN_ROWS = 4


def tsne(
    rows: torch.Tensor, *, perplexity: float = 30.0, iterations: int = 500, seed: int = 0
) -> torch.Tensor:
    """Points in the plane whose neighbors are the neighbors of ``rows`` by cosine: t-SNE.

    Starts from the first two principal components; the same rows and seed give the same map. A
    perplexity above (n - 1) / 3 is lowered to that.
    Shapes: rows [n, D], n >= 4 -> float32 [n, 2] scaled into [0, 1]. Raises InvalidValue.
    Source: van der Maaten, "Accelerating t-SNE using tree-based algorithms", 2014; the code is
    scikit-learn's. About n log n for each iteration.

    >>> tsne(torch.eye(8), iterations=250).shape
    torch.Size([8, 2])
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(rows)
    if count < MIN_ROWS:
        raise InvalidValue(f"`rows` has {count} rows; a map needs at least {MIN_ROWS}.")
    unit = normalize(rows.double(), dim=1)
    centered = unit - unit.mean(0)
    _, _, axes = torch.linalg.svd(centered, full_matrices=False)
    start = torch.zeros(count, 2)
    start[:, : len(axes)] = (centered @ axes[:2].T).float()
    start = start / start.std().clamp_min(1e-12) * 1e-4
    # One thread: several would add in an order of their own, and the map would change.
    with threadpool_limits(1):
        points = TSNE(
            perplexity=min(perplexity, (count - 1) / 3), max_iter=iterations, init=start.numpy(),
            random_state=seed,
        ).fit_transform(unit.float().numpy())  # fmt: skip
    # One scale for both axes, so that distances stay distances; the shorter one is centered.
    points = torch.from_numpy(points)
    low, high = points.amin(0), points.amax(0)
    return (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12) + 0.5
