"""The columns of a table that a page shows: where each image lies, and how unlike others it is."""

from __future__ import annotations

import numpy as np
import torch

from coview.core.progress import say
from coview.embeddings.map import MIN_ROWS, tsne
from coview.embeddings.table import EmbeddingTable

MOST = 10_000


def with_map(table: EmbeddingTable, layer: str) -> EmbeddingTable:
    """The table with coordinates x, y in [0, 1]; computed where it has none, and kept there.

    Fewer than 4 images lie side by side.
    """
    if {"x", "y"} <= set(table.column_names):
        return table
    count = len(table)
    if count < MIN_ROWS:
        return table.with_columns(
            {"x": (np.arange(count) + 1) / (count + 1), "y": np.full(count, 0.5)}
        )
    rows = torch.from_numpy(table.vectors(layer))
    if count > MOST:
        say(f"Map: the first two principal components of {count:,} images.", detail=True)
        points = principal_plane(rows)
    else:
        say(f"Map: t-SNE of {count:,} images.", detail=True)
        points = tsne(rows)
    table = table.with_columns({"x": points[:, 0].numpy(), "y": points[:, 1].numpy()})
    return table if table.path is None else table.write(table.path)


def principal_plane(rows: torch.Tensor) -> torch.Tensor:
    """The two principal components of unit rows [N, D], as float32 [N, 2] in [0, 1].

    >>> principal_plane(torch.eye(5)).shape
    torch.Size([5, 2])
    """
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    centered = unit - unit.mean(0)
    axes = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -2:]
    points = centered @ axes
    low, high = points.amin(0), points.amax(0)
    placed: torch.Tensor = (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12) + 0.5
    return placed
