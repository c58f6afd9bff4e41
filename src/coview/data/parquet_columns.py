"""Which columns of Parquet files hold images and labels; each file is judged by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from coview.core.errors import DataError, UnknownName
from coview.data.classes import IMAGE_NAMES, LABEL_NAMES


@dataclass(frozen=True, slots=True, eq=False)
class ParquetPart:
    """One Parquet file: its path, its schema and its number of rows."""

    path: Path
    schema: Any
    rows: int


def is_table_of_vectors(file: ParquetPart) -> bool:
    """Whether `coview embed` wrote the file: its metadata say so. It may hold small images."""
    return b"coview.format" in (file.schema.metadata or {})


def image_columns(files: Sequence[ParquetPart], column: str | None) -> list[str | None]:
    """The column of images of each file; None for a file without one.

    Raises UnknownName where no file has ``column``, DataError where a file has several candidates
    of which none is named as images, or no file has any.
    """
    if column is not None:
        _require(files, column)
    chosen = [_image_column(file, column) for file in files]
    if all(name is None for name in chosen):
        raise DataError(
            f"{files[0].path} has no column of encoded images (binary, or struct<bytes, path>); "
            f"its columns: {', '.join(files[0].schema.names)}."
        )
    return chosen


def _image_column(file: ParquetPart, column: str | None) -> str | None:
    candidates = [str(field.name) for field in file.schema if is_image(field.type)]
    if column is not None:
        if column not in file.schema.names:
            return None
        if column not in candidates:
            raise DataError(
                f"The column {column!r} of {file.path} has no encoded images "
                f"(it is {_type(file, column)}; expected binary or struct<bytes, path>)."
            )
        return column
    named = [name for name in IMAGE_NAMES if name in candidates]
    if named or len(candidates) <= 1:
        return next(iter(named or candidates), None)
    raise DataError(
        f"{file.path} has several columns that may be images ({', '.join(candidates)}); "
        "select one with `image_column`."
    )


def label_column(
    files: Sequence[ParquetPart], column: str | None, images: Sequence[str], *, automatic: bool
) -> str | None:
    """The column of labels over all files, or None where ``automatic`` finds none for certain.

    ``images``: the column of images of each file. Raises UnknownName and DataError.
    """
    if column is not None:
        _require(files, column)
        for file in files:
            if column in file.schema.names and not _may_be_label(_type(file, column)):
                raise DataError(
                    f"The column {column!r} of {file.path} is {_type(file, column)}; labels are "
                    "whole numbers, strings, or true and false."
                )
        return column
    candidates = dict.fromkeys(
        str(field.name)
        for file, image in zip(files, images, strict=True)
        for field in file.schema
        if field.name != image and _may_be_label(field.type)
    )
    named = [n for n in candidates if any(class_names(file.schema, n) for file in files)]
    named += [n for n in LABEL_NAMES if n in candidates]
    if named or automatic:
        return next(iter(named), None)
    likely = [n for n in candidates if all(_is_likely(file, n) for file in files)]
    if len(likely) == 1:
        return likely[0]
    raise DataError(
        f"{files[0].path} has no column that is clearly the label (of integers or strings: "
        f"{', '.join(likely) or 'none'}); give `label_column`."
    )


def is_image(kind: Any) -> bool:
    """Whether a column of this type may hold encoded images."""
    types = pa.types
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and is_image(kind.field("bytes").type)
    if types.is_dictionary(kind):
        return is_image(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return bool(types.is_uint8(kind.value_type))
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _may_be_label(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_integer_or_text(kind) or any(
        test(kind)
        for test in (
            pa.types.is_boolean, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null,
        )
    )  # fmt: skip


def _is_integer_or_text(kind: Any) -> bool:
    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return bool(types.is_integer(kind) or any(test(kind) for test in texts))


def _is_likely(file: ParquetPart, name: str) -> bool:
    if name not in file.schema.names:
        return True
    kind = _type(file, name)
    return _is_integer_or_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _type(file: ParquetPart, column: str) -> Any:
    return file.schema.field(file.schema.names.index(column)).type


def _require(files: Sequence[ParquetPart], column: str) -> None:
    known = dict.fromkeys(str(name) for file in files for name in file.schema.names)
    if column not in known:
        raise UnknownName(f"column in {files[0].path}", column, known)


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """The class names of ``column`` in Hugging Face's metadata, or none."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][column]["names"]
        if isinstance(names, dict):  # an older layout: {"0": "cat", "1": "dog"}
            names = [names[key] for key in sorted(names, key=int)]
    except (KeyError, TypeError, ValueError):
        return ()
    if not isinstance(names, list):
        return ()
    return tuple(
        f"{name} ({number})" if names.count(name) > 1 else str(name)
        for number, name in enumerate(names)
    )
