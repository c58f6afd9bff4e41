"""A table with the path of one image in each row, and perhaps its label: CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.core.errors import DataError, UnknownName
from coview.core.paths import local_path, open_regular
from coview.data.classes import IMAGE_NAMES, LABEL_NAMES, Label, label_of_text, number_labels
from coview.data.files import list_files
from coview.data.listing import Listing
from coview.data.options import SourceOptions

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
PATH_NAMES = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image_file",
    *IMAGE_NAMES,
)  # fmt: skip
"""The columns that are taken for paths, the likeliest first."""

Table = Mapping[str, Sequence[Any]]


def read_manifest(path: Path, table: Table, options: SourceOptions) -> Listing:
    """The files that ``table`` lists, relative to the folder of ``path``, named as in the table.

    The columns are those of the options, else those with a usual name. A file that is not there has
    a line in the quarantine. Raises DataError or UnknownName where there is no such column.
    """
    options.refuse("a table of paths", labels_from="folders", columns=False)
    places = _choose(path, table, options.columns[0], PATH_NAMES, "paths of images", "image_column")
    label = _label_column(path, table, options, places)
    rows = [row for row, text in enumerate(table[places]) if text not in (None, "")]
    if not rows:
        raise DataError(f"{path} has no images: the column {places!r} is empty.")
    names = [str(table[places][row]) for row in rows]
    values = [[None if label is None else _label(table[label][row]) for row in rows]]
    labels, classes = number_labels(values, [()], label or "")
    paths = [path.parent / local_path(name) for name in names]
    return list_files(names, paths, source=str(path), labels=labels, class_names=classes)


def read_table(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV or TSV file with a line of names. Raises DataError."""
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
        names, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{path} is not a readable table ({error}).") from error
    rows = [row for row in rows if row]
    columns = {name.strip(): [row[i] if i < len(row) else "" for row in rows]
               for i, name in enumerate(names)}  # fmt: skip
    return columns


def path_table(path: Path) -> dict[str, list[Any]] | None:
    """The columns of text and of labels of a Parquet file without images; None for others."""
    import pyarrow as pa

    from coview.data.parquet import holds_images, open_parquet

    if holds_images(path):
        return None
    with open_parquet(path) as file:
        plain = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
        if not set(plain) & set(PATH_NAMES):
            return None
        return {name: file.read(columns=[name]).column(0).to_pylist() for name in plain}


def _choose(
    path: Path, table: Table, column: str | None, usual: Sequence[str], what: str, option: str
) -> str:
    if column is not None:
        if column not in table:
            raise UnknownName(f"column in {path}", column, table)
        return column
    by_lower: dict[str, str] = {name.lower(): name for name in reversed(list(table))}
    found = next((by_lower[name] for name in usual if name in by_lower), None)
    if found is None:
        raise DataError(
            f"{path} has no column that is clearly of {what}; its columns: {', '.join(table)}. "
            f"Name it by `{option}`; the first line of a CSV file holds the names."
        )
    return found


def _label_column(path: Path, table: Table, options: SourceOptions, places: str) -> str | None:
    if not options.uses_labels:
        return None
    others = {name: column for name, column in table.items() if name != places}
    try:
        return _choose(path, others, options.columns[1], LABEL_NAMES, "labels", "label_column")
    except DataError:
        if options.labels_from == "auto":
            return None
        raise


def _label(value: Any) -> Label:
    """A label as a number where it is one; None where the cell is empty."""
    return None if value is None or value != value else label_of_text(str(value))
