"""Image data sets in Parquet, as they are commonly published.

One column has the encoded images: binary, or a struct with a field ``bytes`` (and ``path``). One
column may have labels: strings, or numbers whose class names Hugging Face's ``datasets`` wrote
into the schema metadata.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coview.core.errors import CoviewError, DataError
from coview.core.paths import open_regular
from coview.core.text import plural
from coview.data.classes import Label, number_labels, plain_labels
from coview.data.listing import (
    Content,
    Listing,
    Rejected,
    file_fact,
    hash_lines,
    image_ids,
    row_stamps,
    utf8_name,
)
from coview.data.options import SourceOptions
from coview.data.parquet_columns import (
    ParquetPart,
    class_names,
    image_columns,
    is_image,
    is_table_of_vectors,
    label_column,
)

_BATCH_BYTES, _BATCH_ROWS = 32 << 20, 1024


def read_parquet(paths: Iterable[Path], options: SourceOptions, *, source: str) -> Listing:
    """The images of the given files, named "file.parquet#row" by file and row.

    A column that the options do not name is selected by type, then by name; "auto" takes only a
    column that is a label by its name or by the metadata. Files without images are passed over.
    Raises DataError for files that are not Parquet or hold no images.
    """
    unique = {path.resolve(): path for path in paths}
    ordered = sorted(unique.values(), key=lambda path: path.as_posix())
    files, passed, columns = _with_images([_look(path) for path in ordered], options.columns[0])
    if sum(file.rows for file in files) == 0:
        raise DataError(f"{source} has no images: it has no rows.")
    base = Path(os.path.commonpath([file.path.parent for file in files]))
    names = [f"{file.path.relative_to(base).as_posix()}#{row}"
             for file in files for row in range(file.rows)]  # fmt: skip
    labels, classes, notes = _read_labels(files, columns, options)
    if passed:
        shown = ", ".join(path.name for path in passed[:3]) + (" ..." if len(passed) > 3 else "")
        files_passed = plural(len(passed), "Parquet file")
        notes = (
            f"Passed over {files_passed} of vectors or without a column of images: {shown}.",
            *notes,
        )
    facts = [file_fact(file.path.resolve(), file.path.stat()) for file in files]
    ends = np.cumsum([0, *(file.rows for file in files)])
    return Listing(
        source=source, names=[utf8_name(name) for name in names],
        contents=_Reader([file.path for file in files], ends, columns),
        stamp=hash_lines(["parquet", *columns, *facts]), ids=image_ids(names), labels=labels,
        class_names=classes, notes=notes, is_sequential=True,
        stamps=row_stamps([" ".join([*columns, fact]) for fact in facts], [f.rows for f in files]),
    )  # fmt: skip


def holds_images(path: Path, *, beside_vectors: bool = True) -> bool:
    """Whether a Parquet file has a column of images; False where it cannot be read.

    ``beside_vectors``: the small ones of a table of vectors count as well.
    """
    try:
        file = _look(path)
    except DataError:
        return False
    counts = beside_vectors or not is_table_of_vectors(file)
    return counts and any(is_image(field.type) for field in file.schema)


def _look(path: Path) -> ParquetPart:
    with open_parquet(path) as file:
        return ParquetPart(path, file.schema_arrow, int(file.metadata.num_rows))


def _with_images(
    files: list[ParquetPart], column: str | None
) -> tuple[list[ParquetPart], list[Path], list[str]]:
    """The files with a column of images, the paths of the others, and these columns.

    Tables of vectors that Coview made are read where there are no other files: their images are
    small versions of the others.
    """
    columns = image_columns(files, column)
    if any(image and not is_table_of_vectors(f) for f, image in zip(files, columns, strict=True)):
        columns = [
            None if is_table_of_vectors(file) else image
            for file, image in zip(files, columns, strict=True)
        ]
    chosen = list(zip(files, columns, strict=True))
    return (
        [file for file, image in chosen if image is not None],
        [file.path for file, image in chosen if image is None],
        [image for _, image in chosen if image is not None],
    )


def _read_labels(
    files: list[ParquetPart], images: list[str], options: SourceOptions
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...], tuple[str, ...]]:
    """(labels, class names, sentences on files without labels)."""
    if not options.uses_labels:
        return None, (), ()
    automatic = options.labels_from == "auto"
    column = label_column(files, options.columns[1], images, automatic=automatic)
    if column is None:
        return None, (), ()
    values: list[list[Label]] = []
    lacking = []
    for file in files:
        if column not in file.schema.names:
            lacking.append(file)
            values.append([None] * file.rows)
            continue
        with open_parquet(file.path) as opened:
            table = opened.read(columns=[column])
            values.append(plain_labels(_column(table, column).to_pylist(), column, file.path))
    labels, classes = number_labels(values, [class_names(f.schema, column) for f in files], column)
    if not lacking or labels is None:
        return labels, classes, ()
    shown = ", ".join(file.path.name for file in lacking[:3]) + (" ..." if lacking[3:] else "")
    images_lacking = plural(sum(file.rows for file in lacking), "image")
    note = f"{images_lacking} without a label: the column {column!r} is missing in {shown}."
    return labels, classes, (note,)


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Reads the given rows batch by batch; no file is ever read whole."""

    paths: list[Path]
    ends: npt.NDArray[np.int64]
    columns: list[str]

    def __call__(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for number, path in enumerate(self.paths):
            first, last = np.searchsorted(rows, self.ends[number : number + 2])
            if first < last:
                with open_parquet(path) as file:
                    inside = rows[first:last] - self.ends[number]
                    for cell in _read_cells(file, self.columns[number], inside):
                        yield _read_cell(cell, path.parent)


def _read_cells(file: Any, column: str, rows: npt.NDArray[np.int64]) -> Iterator[Any]:
    """The cells of a column in the given rows, batch by batch; other row groups are not read."""
    start = 0
    for group in range(file.metadata.num_row_groups):
        metadata = file.metadata.row_group(group)
        inside = _within(rows, start, metadata.num_rows)
        start += metadata.num_rows
        if not len(inside):
            continue
        average = metadata.total_byte_size // metadata.num_rows + 1
        size = int(np.clip(_BATCH_BYTES // average, 1, _BATCH_ROWS))
        first = 0
        for batch in file.iter_batches(size, row_groups=[group], columns=[column]):
            selected = _within(inside, first, len(batch))
            cells = _column(batch, column)
            yield from (cells[row] for row in selected.tolist())
            first += len(batch)


def _within(rows: npt.NDArray[np.int64], start: int, count: int) -> npt.NDArray[np.int64]:
    """The rows in [start, start + count), counted from start."""
    first, last = np.searchsorted(rows, (start, start + count))
    return rows[first:last] - start


def _column(table: Any, name: str) -> Any:
    """The column of a table or batch; pyarrow reads "image.x" along with "image"."""
    return table.column(table.schema.names.index(name))


def _read_cell(cell: Any, folder: Path) -> tuple[Content, int]:
    """What a cell holds, and its size: bytes, the path of a file beside the Parquet file, or
    neither.
    """
    path = None
    if pa.types.is_struct(cell.type) and cell.is_valid:
        path = cell["path"].as_py() if "path" in cell else None
        cell = cell["bytes"]
    content = _bytes(cell)
    if content is not None:
        return content, len(content)
    if isinstance(path, str) and path:
        return folder / path, 1 << 16
    return Rejected("no image in this row"), 0


def _bytes(cell: Any) -> bytes | None:
    if not cell.is_valid:
        return None
    if isinstance(cell, pa.ListScalar):
        return bytes(cell.values.to_numpy(zero_copy_only=False).tobytes())
    content: bytes | None = cell.as_py()
    return content


class ArrowFile:
    """A file that Hugging Face's ``save_to_disk`` wrote, with what is used of pq.ParquetFile."""

    def __init__(self, source: Any) -> None:
        self.table = pa.ipc.open_stream(source).read_all()  # views of the mapped file
        self.schema_arrow, self.metadata = self.table.schema, self
        self.num_rows, self.total_byte_size = self.table.num_rows, self.table.nbytes
        self.num_row_groups = 1

    def row_group(self, _: int) -> ArrowFile:
        return self

    def iter_batches(self, size: int, *, row_groups: Any, columns: list[str]) -> Iterator[Any]:
        yield from self.table.select(columns).to_batches(max_chunksize=size)

    def read(self, columns: list[str]) -> Any:
        return self.table.select(columns)


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """The file, memory-mapped. An error of pyarrow becomes one sentence that names the file.

    pyarrow itself would wait for a pipe, and takes no name that is not UTF-8.
    """
    try:
        with open_regular(path) as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise DataError(f"{path} is empty; expected a Parquet file.")
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        source = pa.BufferReader(pa.py_buffer(content))
        if path.suffix.lower() == ".arrow":
            yield ArrowFile(source)
            return
        with pq.ParquetFile(source) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, CoviewError):
            raise
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} is not a readable Parquet file ({reason}).") from error
