"""Vectors once computed: neighbors, duplicates, maps. Knows no network."""

from coview.embeddings.duplicates import exact_groups, near_pairs
from coview.embeddings.map import tsne
from coview.embeddings.neighbors import neighbors

__all__ = ["exact_groups", "near_pairs", "neighbors", "tsne"]
