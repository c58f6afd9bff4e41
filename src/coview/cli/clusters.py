"""What the terminal shows of a map: its clusters by their central images, and the outliers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coview.core.progress import table_console
from coview.core.text import printable

if TYPE_CHECKING:
    from coview.embeddings.clusters import Cluster
    from coview.embeddings.table import EmbeddingTable

CENTRAL, UNLIKE = 3, 5
"""Images that name a cluster, and outliers that are named."""


def clusters_table(table: EmbeddingTable, clusters: Sequence[Cluster]) -> None:
    """Print a row a cluster: number, images, classes where labels are known, central images."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("cluster", justify="right")
    shown.add_column("images", justify="right")
    labeled = any(cluster.classes for cluster in clusters)
    if labeled:
        shown.add_column("classes", overflow="fold")
    shown.add_column("most central", overflow="fold")
    names = table.names
    for cluster in clusters:
        classes = [printable(cluster.class_sentence(table.class_names))] if labeled else []
        central = "\n".join(printable(names[row]) for row in cluster.central[:CENTRAL])
        shown.add_row(str(cluster.number), f"{cluster.size:,}", *classes, central)
    table_console().print(shown)


def most_unlike(table: EmbeddingTable) -> list[str]:
    """The names of the images with the highest outlier scores, the highest first."""
    order = np.argsort(-np.asarray(table["outlier"]), kind="stable")[:UNLIKE]
    names = table.names
    return [names[row] for row in order.tolist()]
