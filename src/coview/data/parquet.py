"""Image data sets in Parquet, as they are commonly published.

One column has the encoded images: binary, or a struct with a field ``bytes`` (and ``path``). One
column may have labels: strings, or integers whose class names Hugging Face's ``datasets`` wrote
into the schema metadata.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from coview.core.errors import DataError, UnknownName
from coview.data.listing import Content, Listing, Rejected, hash_lines, image_ids

IMAGE_NAMES = ("image", "images", "img", "picture", "photo", "jpg", "png")
LABEL_NAMES = ("label", "labels", "class", "target", "category", "fine_label", "coarse_label")
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_BATCH_BYTES, _BATCH_ROWS = 32 << 20, 1024
_MAX_CLASSES = 100_000


def read_parquet(
    files: Iterable[Path], *, labels: str | None, image_column: str | None,
    label_column: str | None, source: str,
) -> Listing:  # fmt: skip
    """The images of the given files, named "file.parquet#row" by file and row.

    A column that is None is selected by type, then by name.
    labels: None, "column", or "auto" (only a column that is a label by its name or by the
    metadata). Raises DataError for files that are not Parquet or hold no images.
    """
    unique = {path.resolve(): path for path in files}
    paths = sorted(unique.values(), key=lambda path: path.as_posix())
    schema = _read_schema(paths[0])
    image = _image_column(schema, image_column, paths[0])
    counts = [_count_rows(path, image) for path in paths]
    if sum(counts) == 0:
        raise DataError(f"{source} has no images: it has no rows.")
    base = Path(os.path.commonpath([path.parent for path in paths]))
    relative = [path.relative_to(base).as_posix() for path in paths]
    names = [
        f"{n}#{row}" for n, count in zip(relative, counts, strict=True) for row in range(count)
    ]
    label = _label_column(schema, label_column, labels, image, paths[0])
    numbers, classes = (None, ()) if label is None else _read_labels(paths, schema, label)
    facts = [f"{p.resolve()} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in paths]
    return Listing(
        source=source, names=names, contents=_Reader(paths, np.cumsum([0, *counts]), image),
        stamp=hash_lines(["parquet", image, *facts]), ids=image_ids(names), labels=numbers,
        class_names=classes,
    )  # fmt: skip


def select_split(names: Sequence[str], split: str) -> list[str]:
    """The files of ``split``, of files named by split ("train-00000.parquet", "test/0.parquet").

    All names if none is named by a split. Raises DataError if there are other splits only.
    """
    by_split: dict[str | None, list[str]] = {}
    for name in names:
        by_split.setdefault(_split_in(name), []).append(name)
    known = [key for key in by_split if key is not None]
    if not known:
        return list(names)
    key = next((key for key, words in _SPLITS.items() if split in words), split)
    if key not in by_split:
        raise DataError(
            f"The Parquet files have no split {split!r}, only: {', '.join(sorted(known))}."
        )
    return by_split[key]


def _split_in(name: str) -> str | None:
    for part in reversed(name.lower().split("/")):
        word = re.split(r"[-_.]", part)[0]
        for split, words in _SPLITS.items():
            if word in words:
                return split
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Reads the given rows batch by batch; no file is ever read whole."""

    paths: list[Path]
    ends: npt.NDArray[np.int64]
    column: str

    def __call__(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for number, path in enumerate(self.paths):
            first, last = np.searchsorted(rows, self.ends[number : number + 2])
            if first < last:
                with _translate_errors(path):
                    yield from self._read_file(path, rows[first:last] - self.ends[number])

    def _read_file(self, path: Path, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        with pq.ParquetFile(path, memory_map=True) as file:
            start = 0
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
                if len(inside):
                    yield from self._read_group(file, path, group, inside - start)
                start = end

    def _read_group(
        self, file: Any, path: Path, group: int, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Content, int]]:
        metadata = file.metadata.row_group(group)
        average = metadata.total_byte_size // max(metadata.num_rows, 1) + 1
        size = int(np.clip(_BATCH_BYTES // average, 1, _BATCH_ROWS))
        start = 0
        for batch in file.iter_batches(size, row_groups=[group], columns=[self.column]):
            inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))]
            if len(inside):
                column = batch.column(0).take(pa.array(inside - start))
                yield from _read_contents(column, path.parent)
            start += len(batch)


def _read_contents(column: Any, folder: Path) -> Iterator[tuple[Content, int]]:
    in_struct = pa.types.is_struct(column.type)
    for row in column.to_pylist():
        content: bytes | None = row["bytes"] if in_struct and row is not None else row
        path: str | None = row.get("path") if in_struct and row is not None else None
        if content is not None:
            yield content, len(content)
        elif path:
            yield folder / path, 1 << 16
        else:
            yield Rejected("no image in this row"), 0


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn an error of pyarrow into one sentence that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} is not a readable Parquet file ({reason}).") from error


def _read_schema(path: Path) -> Any:
    with _translate_errors(path):
        return pq.read_schema(path)


def _count_rows(path: Path, image: str) -> int:
    with _translate_errors(path), pq.ParquetFile(path) as file:
        if image not in file.schema_arrow.names:
            raise DataError(f"{path} has no column {image!r}, which the first file has.")
        return int(file.metadata.num_rows)


def _is_image(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_image(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _image_column(schema: Any, column: str | None, path: Path) -> str:
    candidates = [field.name for field in schema if _is_image(field.type)]
    if column is not None:
        if column not in schema.names:
            raise UnknownName(f"column in {path}", column, schema.names)
        if column not in candidates:
            raise DataError(
                f"The column {column!r} of {path} has no encoded images "
                f"(it is {schema.field(column).type}; expected binary or struct<bytes, path>)."
            )
        return column
    named = [name for name in IMAGE_NAMES if name in candidates]
    if named or len(candidates) == 1:
        return (named or candidates)[0]
    if not candidates:
        raise DataError(
            f"{path} has no column of encoded images (binary, or struct<bytes, path>); "
            f"its columns: {', '.join(schema.names)}."
        )
    raise DataError(
        f"{path} has several columns that may be images ({', '.join(candidates)}); "
        "select one with `image_column`."
    )


def _label_column(
    schema: Any, column: str | None, labels: str | None, image: str, path: Path
) -> str | None:
    if labels is None:
        return None
    candidates = [f.name for f in schema if f.name != image and _is_label(f.type)]
    if column is not None:
        if column not in schema.names:
            raise UnknownName(f"column in {path}", column, schema.names)
        if column not in candidates:
            raise DataError(f"The column {column!r} of {path} has neither integers nor strings.")
        return column
    named = [n for n in candidates if _class_names(schema, n)]
    named += [n for n in LABEL_NAMES if n in candidates]
    if named:
        return str(named[0])
    if labels == "auto":
        return None
    if len(candidates) == 1:
        return str(candidates[0])
    names = ", ".join(candidates) or "none"
    raise DataError(
        f"{path} has no column that is clearly the label (of integers or strings: {names}); "
        "give `label_column`."
    )


def _class_names(schema: Any, column: str) -> tuple[str, ...]:
    """The class names of ``column`` in Hugging Face's metadata, or none."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    if isinstance(names, dict):  # an older layout: {"0": "cat", "1": "dog"}
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(str(name) for name in names)


def _read_labels(
    paths: list[Path], schema: Any, column: str
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    values: list[Any] = []
    for path in paths:
        with _translate_errors(path):
            values += pq.read_table(path, columns=[column]).column(0).to_pylist()
    if all(isinstance(value, int) for value in values if value is not None):
        return _integer_labels(values, _class_names(schema, column), column)
    classes = tuple(sorted({str(value) for value in values if value is not None}))
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number.get(str(v), -1) if v is not None else -1 for v in values]), classes


def _integer_labels(
    values: list[int | None], names: tuple[str, ...], column: str
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    labels = np.array([-1 if value is None else value for value in values], dtype=np.int64)
    if (labels == -1).all():
        return None, ()
    classes = len(names) or _MAX_CLASSES
    if labels.min() < -1 or labels.max() >= classes:
        raise DataError(
            f"The label column {column!r} has {labels.min()} to {labels.max()}; "
            f"expected 0 to {classes - 1}, or -1 for unknown."
        )
    return labels, names or tuple(str(i) for i in range(int(labels.max()) + 1))
