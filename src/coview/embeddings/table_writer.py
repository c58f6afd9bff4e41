"""Writes tables of vectors row by row, so that memory does not grow with the number of images."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.files import replacing
from coview.core.images import image_id, images_fingerprint
from coview.core.temporary import sweep
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_schema import (
    FORMAT,
    PREFIX,
    Array,
    parquet_writer,
    stored_path,
    table_schema,
)

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
            sweep(self.path)
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


def table_of(
    layers: Mapping[str, npt.NDArray[np.float32]], *, names: Sequence[str],
    paths: Sequence[Path | None] | None = None, labels: Array | None = None,
    class_names: Sequence[str] = (), metadata: Mapping[str, str] | None = None,
) -> EmbeddingTable:  # fmt: skip
    """A table in memory of vectors that are there already, each float32 [N, D].

    >>> table_of({"h": np.ones((2, 4), np.float32)}, names=["a", "b"]).names
    ['a', 'b']
    """
    count = len(names)
    blank = np.zeros(count, np.int64)
    writer = TableWriter(None, list(layers), class_names, metadata)
    with writer:
        writer.append(
            {
                "id": np.array([image_id(name) for name in names], dtype=np.int64),
                "name": list(names), "path": [None] * count if paths is None else list(paths),
                "label": blank - 1 if labels is None else labels, "width": blank, "height": blank,
                "pixel_hash": blank, "file_hash": blank, **layers,
            }
        )  # fmt: skip
    return writer.table()
