"""Vectors once computed: their table, neighbors, duplicates, maps. Knows no network.

Importing this package loads no torch: a name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coview.embeddings.duplicates import exact_groups, near_pairs
    from coview.embeddings.map import tsne
    from coview.embeddings.neighbors import neighbors
    from coview.embeddings.table import EmbeddingTable
    from coview.embeddings.table_writer import TableWriter, table_of

MODULES = {
    "EmbeddingTable": "table", "TableWriter": "table_writer", "exact_groups": "duplicates",
    "near_pairs": "duplicates", "neighbors": "neighbors", "table_of": "table_writer", "tsne": "map",
}  # fmt: skip

__all__ = [
    "EmbeddingTable", "TableWriter", "exact_groups", "near_pairs", "neighbors", "table_of", "tsne",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"coview.embeddings.{MODULES[name]}"), name)
    raise AttributeError(f"module 'coview.embeddings' has no attribute {name!r}")
