"""Images on a map: coordinates, clusters and outlier scores as columns of their table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from coview.core.errors import DataError
from coview.core.options import takes
from coview.core.progress import say
from coview.core.text import plural, whole_numbers
from coview.data.spec import data_settings
from coview.embeddings.clusters import Cluster, describe_clusters, granularities, nested_clusters
from coview.embeddings.map import (
    MAX_FAST,
    MAX_TSNE,
    MIN_ROWS,
    has_opentsne,
    landmark_tsne,
    most_landmarks,
)  # fmt: skip
from coview.embeddings.outliers import MAX_BANK, outlier_scores
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_schema import MAP_LAYER
from coview.options import MapOptions, VectorsOptions
from coview.runs.embed import embeddings_of, table_at
from coview.runs.load import say_verdict
from coview.runs.own_images import images_of

CLUSTER = "cluster_"
"""What the name of a column of clusters begins with; their number follows."""


@takes(MapOptions)
def map(options: MapOptions) -> EmbeddingTable:
    """The table of ``data`` with the columns x, y, cluster_8 and so on, and outlier.

    By default that of the images of the run.

    x, y: in 0 .. 1, images with similar vectors lie together. cluster_N: 0 .. N - 1, the largest
    first; each cluster lies within one cluster of every coarser granularity. outlier: the mean
    cosine distance to the 50 nearest images (of fewer than 500 images, to a tenth of them), in
    0 .. 2. The columns are written into the table that :func:`coview.embed` keeps, or with all
    others into ``out``. The same seed gives the same
    columns on the same machine.
    Above 100,000 images with openTSNE, or 10,000 without, the others are placed among the mapped
    ones (``landmarks``).
    Raises RunError, InvalidValue, UnknownName, DataError, MissingExtra, StorageError.

    >>> import coview
    >>> table = coview.map("runs/scenes", "scenes", limit=40, clusters="2,4")
    >>> table["x"].shape, sorted(set(table["cluster_4"].tolist())), len(table["outlier"])
    ((40,), [0, 1, 2, 3], 40)
    """
    say_verdict(options.run)
    return mapped(options)


def mapped(options: MapOptions) -> EmbeddingTable:
    """As :func:`map`, for whoever has said what the run was judged."""
    counts = whole_numbers("clusters", options.clusters)
    landmarks = options.landmarks
    has_opentsne(required=landmarks is not None and landmarks > MAX_TSNE)
    table = vectors_table(options)
    if len(table) < MIN_ROWS:
        raise DataError(f"Only {plural(len(table), 'image')}; a map needs at least {MIN_ROWS}.")
    rows = torch.from_numpy(table.vectors(options.layer))
    counts = counts or granularities(len(rows))
    if table.metadata.get(MAP_LAYER, options.layer) != options.layer:  # those are of other vectors
        counts = tuple({*counts, *_numbers_in(table)})
    clusters = nested_clusters(rows, counts, seed=options.seed)
    if len(rows) > MAX_BANK:
        say(f"Outliers: nearest among {MAX_BANK:,} images that are drawn.", detail=True)
    outlier = outlier_scores(rows, seed=options.seed)
    points = coordinates(rows, landmarks, options.seed).numpy()
    columns = {
        "x": points[:, 0], "y": points[:, 1],
        **{f"{CLUSTER}{count}": numbers for count, numbers in clusters.items()},
        "outlier": outlier,
    }  # fmt: skip
    table = table.with_columns(columns, {MAP_LAYER: options.layer})
    place = options.out or table.path
    return table if place is None else table.write(place)


def coordinates(rows: torch.Tensor, landmarks: int | None, seed: int) -> torch.Tensor:
    """Points [N, 2]; says how many images are mapped themselves, and by which program."""
    count = len(rows)
    landmarks = min(most_landmarks() if landmarks is None else landmarks, count)
    program = "scikit-learn" if landmarks <= MAX_TSNE else "openTSNE"
    text = f"Map: t-SNE of {landmarks:,} images by {program}"
    if landmarks < count:
        text += f"; the other {count - landmarks:,} are placed among their nearest of these"
    if landmarks < count and not has_opentsne():
        text += f". The extra map (openTSNE) maps up to {MAX_FAST:,} themselves"
    say(f"{text}.", detail=True)
    return landmark_tsne(rows, landmarks=landmarks, seed=seed)


def vectors_table(
    options: VectorsOptions, data: Any = None, *, require: Callable[[int], None] | None = None
) -> EmbeddingTable:
    """The table of ``data`` by the run and the options of a command; by default that of the images
    of the command, and where it names none of those of the run. ``require``: see
    :func:`coview.runs.embed.embeddings_of`."""
    if data is not None:
        settings = {**data_settings(options), "limit": None}
        if table_at(data) is not None:
            settings["split"] = None
    else:
        data, images = images_of(options, "data")
        settings = data_settings(images)
    return embeddings_of(
        options.run, data, layers=(options.layer,),
        checkpoint=options.checkpoint, device=options.device, import_=options.import_,
        require=require, **settings,
    )  # fmt: skip


def clusters_in(table: EmbeddingTable, layer: str = "h") -> dict[int, list[Cluster]]:
    """Number of clusters -> each cluster with its central images and classes, of a mapped table.

    >>> import coview
    >>> table = coview.map("runs/scenes", "scenes", limit=12, clusters="2", out="map.parquet")
    >>> [len(clusters) for clusters in clusters_in(table).values()]
    [2]
    """
    rows = torch.from_numpy(table.vectors(layer))
    numbers = {
        count: np.asarray(table[f"{CLUSTER}{count}"], np.int64) for count in _numbers_in(table)
    }
    return {
        count: describe_clusters(rows, clusters, table.labels)
        for count, clusters in numbers.items()
    }


def _numbers_in(table: EmbeddingTable) -> list[int]:
    """The numbers of clusters that a table has columns of, ascending."""
    names = [name for name in table.column_names if name.startswith(CLUSTER)]
    return sorted(int(name.removeprefix(CLUSTER)) for name in names)
