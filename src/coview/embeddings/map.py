"""A 2-D map of vectors: t-SNE by scikit-learn, or of many rows by openTSNE or over landmarks."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue, MissingExtra
from coview.embeddings.neighbors import neighbors

MIN_ROWS = 4
MAX_TSNE, MAX_FAST = 10_000, 100_000
"""Rows up to which scikit-learn maps all of them, and openTSNE."""
PLACING_NEIGHBORS = 5


def tsne(rows: Tensor, *, perplexity: float = 30.0, iterations: int = 500, seed: int = 0) -> Tensor:
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

    count = _checked(rows)
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
    return into_unit_square(torch.from_numpy(points))


def fast_tsne(rows: Tensor, *, perplexity: float = 30.0, seed: int = 0) -> Tensor:
    """The map of :func:`tsne` by openTSNE, whose time grows as n: for more than 10,000 rows.

    The nearest neighbors are approximate. The same rows and seed give the same map: one thread.
    Shapes: rows [n, D], n >= 4 -> float32 [n, 2] in [0, 1]. Raises InvalidValue, MissingExtra.
    Source: Linderman et al., "Fast interpolation-based t-SNE", 2019; the code is openTSNE's
    (Policar et al. 2024).
    """
    count = _checked(rows)
    has_opentsne(required=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own use of scikit-learn
        from openTSNE import TSNE

        model = TSNE(perplexity=min(perplexity, (count - 1) / 3), random_state=seed, n_jobs=1)
        points = model.fit(normalize(rows.float(), dim=1).numpy())
    return into_unit_square(torch.from_numpy(np.array(points, np.float32)))


def landmark_tsne(rows: Tensor, *, landmarks: int | None = None, seed: int = 0) -> Tensor:
    """t-SNE of ``landmarks`` rows, drawn by ``seed``; the others are placed beside them.

    A row that is no landmark lies at the mean of its 5 nearest landmarks, weighted by how much
    nearer each is than the sixth. Up to 10,000 landmarks are mapped by :func:`tsne`, more by
    :func:`fast_tsne`; by default there are as many as :func:`most_landmarks`.
    Shapes: rows [n, D], n >= 4 -> float32 [n, 2] in [0, 1]. Time grows as n. Raises InvalidValue,
    MissingExtra.

    >>> landmark_tsne(torch.eye(40), landmarks=20).shape
    torch.Size([40, 2])
    """
    count = _checked(rows)
    landmarks = min(most_landmarks() if landmarks is None else landmarks, count)
    embed = tsne if landmarks <= MAX_TSNE else fast_tsne
    if landmarks == count:
        return embed(rows, seed=seed)
    drawn = np.random.default_rng(seed).choice(count, landmarks, replace=False)
    chosen = torch.from_numpy(np.sort(drawn))
    points = embed(rows[chosen], seed=seed)
    cosines, nearest = neighbors(rows[chosen], rows, PLACING_NEIGHBORS + 1)
    weights = (cosines - cosines[:, -1:])[:, :-1].clamp_min(1e-6)
    weights = weights / weights.sum(1, keepdim=True)
    placed = (points[nearest[:, :-1]] * weights[..., None]).sum(1)
    placed[chosen] = points
    return into_unit_square(placed)


def most_landmarks() -> int:
    """How many rows are mapped themselves by default: 100,000 with openTSNE, else 10,000."""
    return MAX_FAST if has_opentsne() else MAX_TSNE


def has_opentsne(*, required: bool = False) -> bool:
    """Whether openTSNE is installed. ``required``: raise MissingExtra where it is not."""
    found = importlib.util.find_spec("openTSNE") is not None
    if required and not found:
        raise MissingExtra("openTSNE", "map", f"A map of more than {MAX_TSNE:,} images themselves")
    return found


def into_unit_square(points: Tensor) -> Tensor:
    """Points [n, 2] in [0, 1]: one scale for both axes, the shorter one centered.

    >>> into_unit_square(torch.tensor([[0.0, 3.0], [4.0, 5.0]]))
    tensor([[0.0000, 0.2500],
            [1.0000, 0.7500]])
    """
    low, high = points.amin(0), points.amax(0)
    return (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12) + 0.5


def _checked(rows: Tensor) -> int:
    if len(rows) < MIN_ROWS:
        raise InvalidValue(f"`rows` has {len(rows)} rows; a map needs at least {MIN_ROWS}.")
    return len(rows)
