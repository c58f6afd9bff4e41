"""A 2-D map of an embedding: exact t-SNE, small enough for a report."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import normalize

MOST_ROWS = 2000


def tsne(rows: torch.Tensor, *, perplexity: float = 30.0, iterations: int = 400) -> torch.Tensor:
    """Places in the plane whose neighbors are the neighbors of ``rows`` by cosine.

    Exact gradients, started from the first two principal components, so the same rows give the
    same map. Shapes: rows [n, D], 4 <= n <= 2000 -> float32 [n, 2] scaled into [0, 1].
    Source: van der Maaten and Hinton 2008, equations 1 to 5. Cost: O(n^2) for each iteration.
    """
    count = len(rows)
    assert 4 <= count <= MOST_ROWS
    unit = normalize(rows.double(), dim=1)
    shares = joint_shares((2 - 2 * unit @ unit.T).clamp_min(0), min(perplexity, (count - 1) / 3))
    centered = unit - unit.mean(0)
    _, _, axes = torch.linalg.svd(centered, full_matrices=False)
    places = (centered @ axes[:2].T).float()
    places = places / places.std().clamp_min(1e-12) * 1e-2
    return _unit_square(_descend(places, shares.float(), iterations))


def joint_shares(distances: torch.Tensor, perplexity: float) -> torch.Tensor:
    """Symmetric P [n, n] with each row's bandwidth chosen by bisection for ``perplexity``."""
    count = len(distances)
    others = distances.clone().fill_diagonal_(torch.inf)
    low, high = distances.new_zeros(count, 1), distances.new_full((count, 1), torch.inf)
    precision = distances.new_ones(count, 1)
    for _ in range(60):
        weights = torch.softmax(-others * precision, dim=1)
        entropy = -torch.xlogy(weights, weights).sum(1, keepdim=True)
        too_wide = entropy > math.log(perplexity)
        low, high = torch.where(too_wide, precision, low), torch.where(too_wide, high, precision)
        precision = torch.where(high.isinf(), precision * 2, (low + high) / 2)
    shares = torch.softmax(-others * precision, dim=1)
    return (shares + shares.T) / (2 * count)


def _descend(places: torch.Tensor, shares: torch.Tensor, iterations: int) -> torch.Tensor:
    velocity, gains = torch.zeros_like(places), torch.ones_like(places)
    rate = max(len(places) / 12 / 4, 50.0)
    for step in range(iterations):
        early = step < iterations // 4
        gradient = _gradient(places, shares * 12 if early else shares)
        # Per-coordinate gains as in the authors' code (delta-bar-delta, Jacobs 1988).
        gains = torch.where(gradient.sign() != velocity.sign(), gains + 0.2, gains * 0.8)
        gains = gains.clamp_min(0.01)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * gradient
        places = places + velocity
        places = places - places.mean(0)
    return places


def _gradient(places: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """4 sum_j (p_ij - q_ij) (1 + |y_i - y_j|^2)^-1 (y_i - y_j)."""
    near = 1 / (1 + torch.cdist(places, places).square())
    near.fill_diagonal_(0)
    pull = (shares - near / near.sum()) * near
    return 4 * (pull.sum(1, keepdim=True) * places - pull @ places)


def _unit_square(places: torch.Tensor) -> torch.Tensor:
    """One scale for both axes, so that distances stay distances; the shorter one is centered."""
    low, high = places.amin(0), places.amax(0)
    return (places - (low + high) / 2) / (high - low).max().clamp_min(1e-12) + 0.5
