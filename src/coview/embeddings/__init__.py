"""Vectors once computed: their table, neighbors, duplicates, maps. Knows no network.

Importing this package loads no torch: a name is imported when it is first used. A function with the
name of its module is imported from there: ``from coview.embeddings.neighbors import neighbors``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coview.embeddings.clusters import describe_clusters, nested_clusters
    from coview.embeddings.duplicates import exact_groups, find_pairs, group_column, group_pairs
    from coview.embeddings.map import landmark_tsne, tsne
    from coview.embeddings.outliers import outlier_scores
    from coview.embeddings.selection import select_rows
    from coview.embeddings.table import EmbeddingTable
    from coview.embeddings.table_writer import TableWriter, table_of

MODULES = {
    "EmbeddingTable": "table", "TableWriter": "table_writer", "describe_clusters": "clusters",
    "exact_groups": "duplicates", "find_pairs": "duplicates", "group_column": "duplicates",
    "group_pairs": "duplicates", "landmark_tsne": "map",
    "nested_clusters": "clusters", "outlier_scores": "outliers", "select_rows": "selection",
    "table_of": "table_writer", "tsne": "map",
}  # fmt: skip

__all__ = [
    "EmbeddingTable", "TableWriter", "describe_clusters", "exact_groups", "find_pairs",
    "group_column", "group_pairs", "landmark_tsne", "nested_clusters",
    "outlier_scores", "select_rows", "table_of", "tsne",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"coview.embeddings.{MODULES[name]}"), name)
    raise AttributeError(f"module 'coview.embeddings' has no attribute {name!r}")
