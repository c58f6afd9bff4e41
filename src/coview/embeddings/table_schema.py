"""The columns of a table of vectors, and how they lie in a Parquet file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.paths import utf8_text

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]

FORMAT = "1"
"""Of the columns and the metadata; a table of another format is not read."""
PREFIX = "coview."
MAP_LAYER = f"{PREFIX}map_layer"
"""The metadata of a mapped table that say of which vectors its map, clusters and outliers are."""
OWN = ("id", "name", "path", "label", "class", "width", "height", "pixel_hash", "file_hash")
"""The columns of every table; those of vectors and any others follow."""


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

    None where there is no path, or it is not UTF-8.

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
                path = Path(os.path.relpath(path, folder))
    return utf8_text(path)
