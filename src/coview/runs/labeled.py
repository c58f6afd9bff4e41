"""Which images are labeled already: by tables of names or paths, or by the images themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.paths import absolute_path, local_path
from coview.core.places import Kind, place_of
from coview.core.text import plural
from coview.data.classes import label_of_text
from coview.data.manifest import PATH_NAMES, TABLE_SUFFIXES, read_table
from coview.data.parquet import holds_images, open_parquet
from coview.embeddings.table import EmbeddingTable
from coview.options import SelectOptions
from coview.runs.embed import table_at
from coview.runs.map import vectors_table

NAMES = ("name", *PATH_NAMES)
"""The columns that are taken for names or paths of images, the likeliest first."""
LABEL = "label"
"""The column of a table of names that is empty, or -1, where an image has no label."""


def labeled_images(
    table: EmbeddingTable, options: SelectOptions
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(the rows of ``table`` that are labeled already, the vectors of labeled images elsewhere).

    An item of ``options.labeled`` is a table of names or paths, all of images of ``table``, or it
    is images: those that are the same file or have the same pixels as one of ``table`` are its
    rows. Shapes: int64 [L], ascending; float32 [M, D]. Raises DataError.
    """
    width = table.vectors(options.layer).shape[1]
    rows, vectors = [np.empty(0, np.int64)], [np.empty((0, width), np.float32)]
    labeled = options.labeled
    single = isinstance(labeled, str | Path | EmbeddingTable) or hasattr(labeled, "shape")
    for item in (labeled,) if single else labeled or ():
        names = names_in(item)
        if names is not None:
            rows.append(named_rows(table, *names))
            continue
        images = vectors_table(options, item)
        here, elsewhere = same_images(table, images)
        rows.append(here)
        vectors.append(images.vectors(options.layer)[elsewhere])
    return np.unique(np.concatenate(rows)), np.concatenate(vectors)


def names_in(item: Any) -> tuple[Path, list[str]] | None:
    """(the file, the names or paths in it) of a table of names; None where ``item`` is images.

    Without the images whose label is empty, where the table has a column of labels.
    Raises DataError where a table has no column of names.
    """
    if not isinstance(item, str | Path) or place_of(item).kind is not Kind.FILE:
        return None
    path = local_path(item)
    suffix = path.suffix.lower()
    is_parquet = suffix == ".parquet" and table_at(path) is None and not holds_images(path)
    if suffix not in TABLE_SUFFIXES and not is_parquet:
        return None
    columns: Any = read_parquet(path) if is_parquet else read_table(path)
    name = next((name for name in NAMES if name in columns), None)
    if name is None:
        raise DataError(
            f"{path} has no column of images; expected one named {', '.join(NAMES[:3])} or so, its "
            f"columns are {', '.join(columns)}."
        )
    values = columns[name]
    labels = columns.get(LABEL, [0] * len(values))
    rows = zip(values, labels, strict=True)
    return path, [str(value) for value, label in rows if value not in (None, "") and _is_one(label)]


def _is_one(label: Any) -> bool:
    """Whether it is a label: neither an empty cell nor -1."""
    return label is not None and label_of_text(str(label)) not in (None, -1)


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """The columns of a Parquet file; only those of names, paths and labels are read."""
    read = (*NAMES, LABEL)
    with open_parquet(path) as file:
        return {
            name: file.read(columns=[name]).column(0).to_pylist() if name in read else []
            for name in file.schema_arrow.names
        }


def named_rows(table: EmbeddingTable, path: Path, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The rows of the images that a file names: by name in the data, or by path. Raises DataError.

    A relative path begins at the folder of the file.
    """
    by_name = {name: row for row, name in enumerate(table.names)}
    by_path = {str(place): row for row, place in enumerate(table.paths) if place is not None}
    folder = absolute_path(path).parent
    rows, missing = [], []
    for name in names:
        place = os.path.normpath(folder / name)
        row = by_name.get(name, by_path.get(place))
        missing += [] if row is not None else [name]
        rows += [] if row is None else [row]
    if missing:
        example = table.names[0] if table.names else ""
        raise DataError(
            f"{path} names {plural(len(missing), 'image')} not among the {len(table):,} to choose "
            f"from, such as {', '.join(missing[:3])}; expected their names, like {example!r}, or "
            "paths. Images from elsewhere are given as images, not as a table."
        )
    return np.array(rows, dtype=np.int64)


def same_images(
    table: EmbeddingTable, images: EmbeddingTable
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(the rows of ``table`` with the pixels of any of ``images``, the rows of the other images).

    A hash of 0 is none: that of a table which was made without images.
    """
    own, wanted = (np.asarray(each.column("pixel_hash")) for each in (table, images))
    here = np.isin(own, wanted[wanted != 0])
    return np.flatnonzero(here), np.flatnonzero(~np.isin(wanted, own[here]))
