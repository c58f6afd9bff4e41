"""A table of vectors for programs that read no Parquet: NumPy's .npy, CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coview.core.errors import InvalidValue, UnknownName
from coview.core.files import exists, replacing
from coview.core.progress import say
from coview.embeddings.table import EmbeddingTable

FORMATS = ("parquet", "npy", "csv")
ENDINGS = tuple(f".{name}" for name in FORMATS)
IN_WORDS = ("id", "name", "path", "label", "class")
"""The columns beside the vectors."""


def choose_format(out: Path | None, name: str | None, layers: Sequence[str]) -> str:
    """The format of a file: by ``name``, else by the ending of ``out``, else Parquet.

    Raises UnknownName, and InvalidValue where they disagree or the format cannot hold the layers.

    >>> choose_format(Path("x.csv"), None, ["h"]), choose_format(None, None, ["h"])
    ('csv', 'parquet')
    """
    if name is not None and name not in FORMATS:
        raise UnknownName("format of a table", name, FORMATS)
    ending = None if out is None else out.suffix.lower().removeprefix(".")
    if name is not None and ending not in (None, name):
        raise InvalidValue(
            f"`format` is {name} and `out` is {out}, whose ending means {ending}; expected a name "
            f"that ends in .{name}."
        )
    kind = name or ending or "parquet"
    if kind == "npy" and len(layers) > 1:
        raise InvalidValue(
            f"A .npy file holds one layer, and `layers` names {', '.join(layers)}. Name one of "
            "them, or a .csv or .parquet file, which holds several."
        )
    return kind


def write_as(table: EmbeddingTable, out: Path, kind: str, layers: Sequence[str]) -> None:
    """``table`` as ``kind``, part by part. Beside x.npy is x.names.csv with the other columns."""
    if exists(out):
        say(f"{out} is there already and is replaced.")
    if kind == "npy":
        names = out.with_suffix(".names.csv")
        write_csv(table, names, ())
        write_npy(table, out, layers[0])
        say(f"The names of its rows: {names}", detail=True)
    else:
        write_csv(table, out, layers)


def write_npy(table: EmbeddingTable, path: Path, layer: str) -> None:
    """The vectors of ``layer`` as NumPy's array float32 [N, D]."""
    width = table.schema.field(layer).type.list_size
    with replacing(path) as temporary, temporary.open("wb") as stream:
        head = {"descr": "<f4", "fortran_order": False, "shape": (len(table), width)}
        np.lib.format.write_array_header_1_0(stream, head)
        for group in table.groups([layer]):
            for chunk in group.column(0).chunks:
                stream.write(chunk.flatten().to_numpy().astype("<f4", copy=False).data)


def write_csv(table: EmbeddingTable, path: Path, layers: Sequence[str]) -> None:
    """id, name, path, label, class, and each number of a vector as a column: h0, h1, ..."""
    import pyarrow as pa
    from pyarrow import csv

    fields = [table.schema.field(name) for name in IN_WORDS]
    for layer in layers:
        width = table.schema.field(layer).type.list_size
        fields += [pa.field(f"{layer}{number}", pa.float32()) for number in range(width)]
    schema = pa.schema(fields)
    paths = table.paths
    with replacing(path) as temporary, csv.CSVWriter(temporary, schema) as writer:
        for group, part in enumerate(table.groups([*IN_WORDS, *layers])):
            start = int(table.group_ends[group])
            columns: list[Any] = [part.column(name) for name in IN_WORDS]
            absolute = [None if p is None else str(p) for p in paths[start : start + len(part)]]
            columns[IN_WORDS.index("path")] = pa.array(absolute, pa.string())
            for layer in layers:
                vectors = part.column(layer).combine_chunks()
                width = vectors.type.list_size
                values = vectors.flatten().to_numpy().reshape(-1, width)
                columns += [pa.array(np.ascontiguousarray(column)) for column in values.T]
            writer.write_table(pa.table(columns, schema=schema))
