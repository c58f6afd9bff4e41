"""Vectors once computed: neighbors, duplicates, maps. Knows no network."""
