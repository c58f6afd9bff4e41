"""The columns of a table that a page shows: coordinates, clusters, outlier scores, copies."""

from __future__ import annotations

import numpy as np

from coview.core.images import ImageStore
from coview.embeddings.map import MIN_ROWS
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_schema import MAP_LAYER
from coview.options import BrowseOptions, MapOptions
from coview.runs.duplicates import GROUP, duplicates_in
from coview.runs.map import CLUSTER, mapped

COLUMNS = {"x", "y", "outlier"}


def with_map(options: BrowseOptions, table: EmbeddingTable) -> EmbeddingTable:
    """The table with coordinates x, y in [0, 1], clusters and outlier scores, as `coview map` has
    them; where some are missing or of another layer, all are computed and kept in the table.

    Fewer than 4 images lie side by side.
    """
    names = set(table.column_names)
    is_whole = names >= COLUMNS and any(name.startswith(CLUSTER) for name in names)
    if is_whole and table.metadata.get(MAP_LAYER, options.layer) == options.layer:
        return table
    count = len(table)
    if count < MIN_ROWS:
        x = (np.arange(count) + 1) / (count + 1)
        return table.with_columns({"x": x, "y": np.full(count, 0.5)})
    return mapped(
        MapOptions(
            run=options.run, data=table, layer=options.layer, checkpoint=options.checkpoint,
            device=options.device, import_=options.import_,
        )
    )  # fmt: skip


def with_copies(table: EmbeddingTable, store: ImageStore, layer: str) -> EmbeddingTable:
    """The table with the groups of copies that `coview duplicates` finds among its images, in the
    order of ``store``; they are kept in its file. Where it has them already they stay."""
    if GROUP in table.column_names:
        return table
    copies = duplicates_in([store], [""], vectors=table.vectors(layer))
    table = table.with_columns({GROUP: copies.column})
    return table if table.path is None else table.write(table.path)
