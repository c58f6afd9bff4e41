"""Writes tables of vectors row by row, so that memory does not grow with the number of images."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from coview.core.errors import InvalidValue
from coview.core.files import replacing
from coview.core.images import images_fingerprint
from coview.embeddings.table import FORMAT, PREFIX, EmbeddingTable

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES, GROUP_ROWS = 16 << 20, 1 << 15
"""A row group is written when it has this size, or this number of rows."""
UNIT = 1e-3
"""Vectors are of unit length where no length differs from 1 by more."""

Columns = Mapping[str, Any]


class TableWriter:
    """A table of vectors that is written as the rows come; the file appears at the end, or not.

    ``layers``: the names of the columns of vectors. ``path`` None: in memory. ``images``: rows have
    a picture as well. ``metadata`` may change until the end.

    >>> writer = TableWriter(None, ["h"], ["cat"])
    >>> with writer:
    ...     writer.append({"id": [1], "name": ["a.jpg"], "path": [None], "label": [0],
    ...                    "width": [8], "height": [8], "pixel_hash": [3], "file_hash": [4],
    ...                    "h": np.ones((1, 2), np.float32)})
    >>> writer.table().column("class")
    ['cat']
    """

    def __init__(
        self, path: Path | None, layers: Sequence[str], class_names: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None, *, images: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.layers, self.class_names = path, tuple(layers), list(class_names)
        self.count, self.metadata, self._images = 0, dict(metadata or {}), images
        self._pending: list[pa.RecordBatch] = []
        self._facts: list[dict[str, Any]] = []
        self._is_unit = dict.fromkeys(self.layers, True)
        self._stack = contextlib.ExitStack()
        self._schema: Any = None
        self._sink: Any = None
        self._buffer: Any = None

    def __enter__(self) -> Self:
        import pyarrow as pa

        if self.path is None:
            self._sink = pa.BufferOutputStream()
        else:
            self._sink = self._stack.enter_context(replacing(self.path))
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        with self._stack:
            if kind is not None:
                raise error
            if self._schema is None:
                raise InvalidValue("A table without rows; expected one image or more.")
            self._flush()
            self._finish()
        if self.path is None:
            self._buffer = self._sink.getvalue()
        return None

    def append(self, columns: Columns) -> None:
        """Some rows: the columns of every table but class, one array [n, D] for each layer.

        ``path`` holds absolute paths, or None.
        """
        if self._schema is None:
            self._begin({layer: np.shape(columns[layer])[1] for layer in self.layers})
        batch = self._batch(columns)
        self._pending.append(batch)
        self.count += len(batch)
        names = ("id", "height", "width", "pixel_hash", "label")
        self._facts.append({name: np.asarray(columns[name]) for name in names})
        for layer in self.layers:
            lengths = np.linalg.norm(columns[layer], axis=1)
            self._is_unit[layer] &= bool((np.abs(lengths - 1) <= UNIT).all())
        rows = sum(len(each) for each in self._pending)
        if rows >= GROUP_ROWS or sum(each.nbytes for each in self._pending) >= GROUP_BYTES:
            self._flush()

    def table(self) -> EmbeddingTable:
        """What was written, open. After the writer was closed."""
        if self.path is not None:
            return EmbeddingTable.open(self.path)
        return EmbeddingTable(self._buffer, None)

    def _begin(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._schema = table_schema(sizes, self.class_names, images=self._images)
        start = self._schema.with_metadata(self._start())
        self._writer = self._stack.enter_context(parquet_writer(self._sink, start))

    def _batch(self, columns: Columns) -> pa.RecordBatch:
        import pyarrow as pa

        labels = np.asarray(columns["label"])
        folder = None if self.path is None else self.path.parent
        values = {
            **columns,
            "path": [stored_path(path, folder) for path in columns["path"]],
            "class": [self.class_names[n] if 0 <= n < len(self.class_names) else None
                      for n in labels.tolist()],
        }  # fmt: skip
        arrays = []
        for field in self._schema:
            if field.name in self.layers:
                flat = np.ascontiguousarray(values[field.name], dtype=np.float32).reshape(-1)
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type))
            else:
                arrays.append(pa.array(values[field.name], type=field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            table = pa.Table.from_batches(self._pending)
            self._writer.write_table(table, row_group_size=len(table))
            self._pending = []

    def _start(self) -> dict[str, str]:
        folder = {} if self.path is None else {f"{PREFIX}folder": str(self.path.parent)}
        return {
            f"{PREFIX}format": FORMAT,
            f"{PREFIX}class_names": json.dumps(self.class_names),
            **folder,
            **self.metadata,
        }

    def _finish(self) -> None:
        """Record what is known at the end alone; Arrow reads it from the schema."""
        columns = {
            name: np.concatenate([facts[name] for facts in self._facts] or [np.zeros(0, np.int64)])
            for name in ("id", "height", "width", "pixel_hash", "label")
        }
        labels = columns["label"].astype(np.int64)
        labeled = bool(self.class_names) or bool((labels >= 0).any())
        layers = {
            name: {"size": size, "unit_length": self.count > 0 and self._is_unit[name]}
            for name, size in self._sizes.items()
        }
        end = {
            **self._start(),
            f"{PREFIX}layers": json.dumps(layers),
            f"{PREFIX}labeled": json.dumps(labeled),
            f"{PREFIX}fingerprint": images_fingerprint(
                columns["id"].astype(np.int64), columns["height"].astype(np.int32),
                columns["width"].astype(np.int32), columns["pixel_hash"].astype(np.int64),
                labels if labeled else None,
            ),
        }  # fmt: skip
        schema = self._schema.with_metadata(end)
        text = base64.b64encode(schema.serialize().to_pybytes()).decode()
        self._writer.add_key_value_metadata({**end, "ARROW:schema": text})


def table_schema(layers: Mapping[str, int], class_names: Sequence[str], *, images: bool) -> Any:
    """The columns of a table with vectors of these widths."""
    import pyarrow as pa

    def number(name: str) -> pa.Field:
        return pa.field(name, pa.int64(), nullable=False)

    fields = [
        number("id"), pa.field("name", pa.string(), nullable=False), pa.field("path", pa.string()),
        number("label"), pa.field("class", pa.string()), number("width"), number("height"),
        number("pixel_hash"), number("file_hash"),
    ]  # fmt: skip
    if images:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields.append(pa.field("image", kind))
    for name, size in layers.items():
        if name in {field.name for field in fields}:
            raise InvalidValue(f"A layer {name!r} has the name of another column.")
        # Without nulls it is read in half the time.
        element = pa.field("element", pa.float32(), nullable=False)
        fields.append(pa.field(name, pa.list_(element, size), nullable=False))
    return pa.schema(fields)


@contextlib.contextmanager
def parquet_writer(sink: Any, schema: pa.Schema) -> Iterator[Any]:
    """A writer of Parquet that suits vectors: they do not compress, and every page has a checksum.

    Other columns are compressed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [field.name for field in schema if not pa.types.is_fixed_size_list(field.type)]
    vectors = [field.name for field in schema if field.name not in plain]
    with pq.ParquetWriter(
        sink, schema, use_dictionary=[name for name in plain if name in ("class", "label")],
        compression={name: "NONE" if name in vectors else "SNAPPY" for name in schema.names},
        write_statistics=[name for name in plain if name != "image"], write_page_checksum=True,
    ) as writer:  # fmt: skip
        yield writer


def stored_path(path: Path | None, folder: Path | None) -> str | None:
    """``path`` as a table in ``folder`` holds it: relative where they share a folder.

    >>> stored_path(Path("/data/photos/a.jpg"), Path("/data/runs"))
    '../photos/a.jpg'
    >>> stored_path(Path("/data/photos/a.jpg"), Path("/home/me"))
    '/data/photos/a.jpg'
    """
    if path is None:
        return None
    if folder is not None:
        with contextlib.suppress(ValueError):  # another drive of Windows
            if len(Path(os.path.commonpath([path, folder])).parts) > 1:
                return Path(os.path.relpath(path, folder)).as_posix()
    return path.as_posix()
