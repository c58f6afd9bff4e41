"""The table of vectors that ``coview embed`` writes: one row an image, read a column at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import (
    CoviewError,
    DamagedFile,
    InvalidValue,
    StorageError,
    UnknownName,
)
from coview.core.files import exists, replacing
from coview.core.images import images_fingerprint
from coview.core.paths import Words, absolute_path, open_regular
from coview.core.temporary import sweep
from coview.core.text import plural
from coview.embeddings.table_html import rows_html
from coview.embeddings.table_schema import FORMAT, OWN, PREFIX, parquet_writer, stored_path

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]

Version = tuple[int, int] | None
"""Of a table: size and time of change, in ns, of its file when it was opened; None in memory."""
IMAGES = ("id", "pixel_hash")
"""The columns by which two tables are of the same images."""
SHOWN, SHOWN_ROWS = ("id", "name", "label", "class"), 5
"""What a notebook shows of the columns of every table, and how many rows."""
KEPT_GROUPS = 2
"""Row groups that :meth:`EmbeddingTable.take` keeps, for rows that come in order."""


class EmbeddingTable:
    """N images as vectors: an open Parquet file, or one in memory.

    Columns: id int64 (stable), name (unique in the data), path (of the file; null where an image is
    no file of its own, or its path is not UTF-8), label int64 (-1 unknown), class (its name),
    width and height (in pixels, as decoded), pixel_hash and file_hash int64 (what tells a changed
    image), one column of float32 [D] for each layer, and any columns that were added. Nothing is
    read before it is needed.

    A path in the file is relative to the folder of the table, or absolute where they share no
    folder. :attr:`paths` resolves it; a table that was moved alone finds its images where they
    were.

    >>> from coview.embeddings import table_of
    >>> table = table_of({"h": np.eye(3, dtype=np.float32)}, names=["a.jpg", "b.jpg", "c.jpg"])
    >>> len(table), table.layers, table["h"].shape, table.class_names
    (3, ('h',), (3, 3), ())
    >>> table.with_columns({"cluster": np.array([0, 0, 1])}).column("cluster").tolist()
    [0, 0, 1]
    """

    def __init__(
        self, content: Any, path: Path | None, added: Mapping[str, Any] | None = None,
        more: Mapping[str, str] | None = None, version: Version = None,
    ) -> None:  # fmt: skip
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._content, self.path, self._added = content, path, dict(added or {})
        self._more = dict(more or {})
        self.version = version
        self._file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        self._groups: dict[tuple[int, tuple[str, ...]], Any] = {}
        counts = [self._file.metadata.row_group(g).num_rows for g in range(self.num_groups)]
        self.group_ends = np.cumsum([0, *counts], dtype=np.int64)

    @classmethod
    def open(cls, path: Words) -> EmbeddingTable:
        """The table in ``path``. Raises InvalidValue for any other file, DamagedFile."""
        import mmap

        import pyarrow as pa

        place = absolute_path(path)
        try:
            with open_regular(place) as stream:
                status = os.fstat(stream.fileno())
                if not status.st_size:
                    raise DamagedFile(f"{place} is empty; expected a table of coview embed.")
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            table = cls(pa.py_buffer(content), place, version=(status.st_size, status.st_mtime_ns))
            known = table.metadata.get(f"{PREFIX}format")
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, CoviewError):
                raise
            if isinstance(error, OSError) and error.strerror:
                raise InvalidValue(f"{place} cannot be read: {error.strerror}.") from error
            reason = str(error).partition("\n")[0]
            raise DamagedFile(f"{place} is not a readable Parquet file ({reason}).") from error
        if known != FORMAT or not set(OWN) <= set(table.column_names):
            raise InvalidValue(
                f"{place} is not a table of this version's `coview embed`; make one of the images "
                "with: coview embed RUN DATA"
            )
        return table

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else f"in {self.path}"
        return (
            f"<EmbeddingTable of {plural(len(self), 'image')} {where}: {list(self.column_names)}>"
        )

    def _repr_html_(self) -> str:
        """The first rows in a notebook, without paths and hashes."""
        names = [name for name in self.column_names if name not in OWN or name in SHOWN]
        rows = self.take(np.arange(min(SHOWN_ROWS, len(self))), names).to_pydict()
        where = "in memory" if self.path is None else f"in {self.path}"
        return rows_html(rows, f"{plural(len(self), 'image')} {where}")

    @property
    def num_rows(self) -> int:
        return len(self)

    @property
    def num_groups(self) -> int:
        return int(self._file.metadata.num_row_groups)

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types, as Arrow has them, with all metadata."""
        import pyarrow as pa

        schema = self._file.schema_arrow
        for name, values in self._added.items():
            field = pa.field(name, _arrow(values).type)
            place = schema.get_field_index(name)
            schema = schema.append(field) if place < 0 else schema.set(place, field)
        return schema

    @cached_property
    def column_names(self) -> list[str]:
        return list(dict.fromkeys([*self._file.schema_arrow.names, *self._added]))

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Texts by name: "coview.source", "coview.encoder" (the hash of the weights), and so on."""
        entries = self._file.schema_arrow.metadata or {}
        texts = {key.decode(): value.decode("utf-8", "replace") for key, value in entries.items()}
        return {**texts, **self._more}

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The columns of vectors."""
        return tuple(json.loads(self.metadata.get(f"{PREFIX}layers", "{}")))

    def is_unit(self, layer: str) -> bool:
        """Whether all vectors of ``layer`` have length 1."""
        layers = json.loads(self.metadata.get(f"{PREFIX}layers", "{}"))
        return bool(layers[layer]["unit_length"])

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(json.loads(self.metadata.get(f"{PREFIX}class_names", "[]")))

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        return self._numbers("id")

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """int64 [N], -1 where unknown."""
        return self._numbers("label")

    @cached_property
    def names(self) -> list[str]:
        return list(self._read("name").to_pylist())

    @cached_property
    def folder(self) -> Path | None:
        """Where relative paths begin: the table's folder, or if they lead nowhere its former one.

        None of a table in memory that was never written.
        """
        recorded = self.metadata.get(f"{PREFIX}folder")
        before = Path(recorded) if recorded else None
        if self.path is None:
            return before
        here = self.path.parent
        relative = next((p for p in self._read("path").to_pylist() if p and not _is_abs(p)), None)
        if relative is None or before is None or exists(_place(here, relative)):
            return here
        return before if exists(_place(before, relative)) else here

    @cached_property
    def paths(self) -> list[Path | None]:
        """The absolute path of each image; None where the table holds none."""
        return [self.resolve(path) for path in self._read("path").to_pylist()]

    def resolve(self, path: str | None) -> Path | None:
        """The absolute path of what the column "path" holds."""
        return None if path is None else _place(self.folder or Path(), path)

    def vectors(self, layer: str = "h") -> npt.NDArray[np.float32]:
        """The vectors of ``layer``, float32 [N, D]: read now, and not kept. Raises UnknownName."""
        self.require_layer(layer)
        if layer in self._added:
            return np.asarray(self._added[layer], dtype=np.float32)
        values = np.empty((len(self), self.width(layer)), dtype=np.float32)
        start = 0
        for part in self.vector_parts(layer):
            values[start : start + len(part)] = part
            start += len(part)
        return values

    def vector_parts(self, layer: str = "h") -> Iterator[npt.NDArray[np.float32]]:
        """The vectors part by part, some tens of megabytes at a time. Raises UnknownName."""
        width = self.width(layer)
        for group in range(self.num_groups):
            for chunk in self._group(group, [layer]).column(0).chunks:
                yield chunk.flatten().to_numpy().reshape(-1, width)

    def width(self, layer: str = "h") -> int:
        """The number of dimensions of ``layer``. Raises UnknownName."""
        self.require_layer(layer)
        return int(self.schema.field(layer).type.list_size)

    def require_layer(self, layer: str) -> None:
        """Raise UnknownName where there is no such column of vectors."""
        if layer not in self.layers:
            raise UnknownName("layer in this table", layer, self.layers)

    def column(self, name: str) -> Any:
        """Any column: numbers as an array [N], vectors [N, D], the rest as a list; None if absent.

        A number that is missing is NaN.
        """
        import pyarrow as pa

        if name not in self.column_names:
            return None
        if name in self.layers:
            return self.vectors(name)
        values = self._read(name)
        if pa.types.is_boolean(values.type) or pa.types.is_primitive(values.type):
            return values.to_numpy()
        return values.to_pylist()

    def __getitem__(self, name: str) -> Any:
        if name not in self.column_names:
            raise UnknownName("column in this table", name, self.column_names)
        return self.column(name)

    def take(self, rows: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows, in that order. Row groups without such a row are not read."""
        import pyarrow as pa

        rows = np.asarray(rows, dtype=np.int64)
        groups = np.searchsorted(self.group_ends, rows, side="right") - 1
        parts, places = [], []
        for group in np.unique(groups).tolist():
            chosen = np.flatnonzero(groups == group)
            table = self._kept_group(group, tuple(columns))
            parts.append(table.take(pa.array(rows[chosen] - self.group_ends[group])))
            places.append(chosen)
        if not parts:
            return self._file.schema_arrow.empty_table().select(list(columns))
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(parts).take(pa.array(order))

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows part by part, some tens of megabytes each, with all or some of the columns."""
        names = list(self.column_names if columns is None else columns)
        for group in range(self.num_groups):
            yield self._group(group, names)

    def to_arrow(self) -> pa.Table:
        """All columns in memory, as pyarrow has them."""
        import pyarrow as pa

        return pa.Table.from_batches(self._batches(), schema=self.schema)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame; a vector is one array in its cell."""
        return self.to_arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """What `pyarrow.table`, `polars.DataFrame` and others read, part by part."""
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for table in self.groups():
            yield from table.cast(self.schema).to_batches()

    def with_columns(
        self, columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> EmbeddingTable:
        """The table with further columns, N values each, in place of those of the same name.

        ``metadata``: texts by name, which go with them. Nothing is written before :meth:`write`.
        Raises InvalidValue for the columns that every table has, for vectors, and for another
        number of values.
        """
        for name, values in columns.items():
            if name in OWN or name in self.layers or len(values) != len(self):
                raise InvalidValue(
                    f"The column {name!r} of {len(values):,} values cannot be added to "
                    f"{plural(len(self), 'image')} with the columns {', '.join(self.column_names)}."
                )
        more = {**self._more, **(metadata or {})}
        added = {**self._added, **columns}
        return EmbeddingTable(self._content, self.path, added, more, self.version)

    def has_images_of(self, other: EmbeddingTable) -> bool:
        """Whether the rows are of the same images, with the same pixels, in the same order."""
        return all(np.array_equal(self[name], other[name]) for name in IMAGES)

    def write(self, path: Words) -> EmbeddingTable:
        """The table as a file, whole or not at all; relative paths stay those of the images.

        Where another command has changed the file of the table since it was opened, the columns
        that were added here go into what is there now. Raises StorageError where that is of other
        images.
        """
        place = absolute_path(path)
        if self.version is not None and place == self.path:
            version = file_version(place)
            if version is not None and version != self.version:
                return self._with_changes_of(EmbeddingTable.open(place)).write(place)
        sweep(place)
        moved = self.path is None or self.folder != place.parent
        metadata = {**self.metadata, f"{PREFIX}folder": str(place.parent)}
        schema = self.schema.with_metadata(metadata)
        with replacing(place) as temporary, parquet_writer(temporary, schema) as writer:
            for group, table in enumerate(self.groups()):
                if moved:
                    start, stop = self.group_ends[group : group + 2].tolist()
                    paths = [stored_path(p, place.parent) for p in self.paths[start:stop]]
                    index = table.schema.get_field_index("path")
                    table = table.set_column(index, schema.field("path"), _arrow(paths, "string"))
                writer.write_table(table.cast(schema))
        return EmbeddingTable.open(place)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the images, by the columns; the metadata has that of when it was made.

        They differ where rows were changed afterwards.
        """
        labels = self.labels
        return images_fingerprint(
            self.ids, self._numbers("height").astype(np.int32),
            self._numbers("width").astype(np.int32), self._numbers("pixel_hash"),
            labels if self.metadata.get(f"{PREFIX}labeled") == "true" else None,
        )  # fmt: skip

    def _with_changes_of(self, now: EmbeddingTable) -> EmbeddingTable:
        """``now``, which another command has written in place of this table, with its columns."""
        network = f"{PREFIX}network"
        same = self.metadata.get(network) == now.metadata.get(network)
        if not (same and self.has_images_of(now)):
            raise changed_meanwhile(now.path)
        return now.with_columns(self._added, self._more)

    def _numbers(self, name: str) -> Array:
        values: Array = self._read(name).to_numpy()
        return values

    def _read(self, name: str) -> Any:
        if name in self._added:
            return _arrow(self._added[name])
        return self._file.read(columns=[name]).column(0)

    def _group(self, group: int, columns: Sequence[str]) -> pa.Table:
        start, stop = self.group_ends[group : group + 2].tolist()
        stored = [name for name in columns if name not in self._added]
        table = self._file.read_row_group(group, columns=stored).select(stored)
        for place, name in enumerate(columns):
            if name in self._added:
                table = table.add_column(place, name, _arrow(self._added[name][start:stop]))
        return table

    def _kept_group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        key = (group, columns)
        if key not in self._groups:
            while len(self._groups) >= KEPT_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = self._group(group, columns)
        return self._groups[key]


def file_version(path: Path) -> Version:
    """What :attr:`EmbeddingTable.version` would be of the file; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def changed_meanwhile(path: Path | None) -> StorageError:
    """The error where a table was replaced while a command worked on it."""
    return StorageError(
        f"{path} was changed by another command meanwhile and stays as that has left it; run this "
        "one again."
    )


def _arrow(values: Any, kind: Any = None) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.array(values, type=kind)


def _place(folder: Path, path: str) -> Path:
    """What ``path`` in a table leads to from ``folder``, whatever of ``folder`` is left or a link:
    that is how it was made."""
    return Path(os.path.normpath(folder / path))


def _is_abs(path: str) -> bool:
    return Path(path).is_absolute()
