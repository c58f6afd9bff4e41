"""An approximate index of vectors in a file: the nearest rows without a look at all of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from coview.core.errors import MissingExtra, StorageError
from coview.core.files import replacing
from coview.core.paths import open_regular
from coview.core.progress import progress
from coview.embeddings.search import Rows, Vectors, unit_vectors
from coview.embeddings.table import Version

CANDIDATES = 10
"""Rows that the graph gives for each one that is wanted: they are compared again exactly."""
ADDED_ROWS = 1024
"""Rows between two signs of progress."""
STAMP_BYTES, MAGIC = 4096, "coview-index-1"
"""The end of the file says which vectors it is of; the graph before it is USearch's own format."""


class VectorIndex:
    """The graph of N rows of length 1, mapped from its file: what is not read takes no memory.

    Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs", 2018; the code is USearch's.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def __len__(self) -> int:
        return len(self._graph)

    def nearest_rows(self, queries: Vectors, number: int) -> list[tuple[Vectors, Rows]]:
        """For each query (cosines float32 [k], rows int64 [k]), k <= number, the nearest first.

        Some of the nearest may be missing; the cosines and the order of what is found are exact.
        """
        found = []
        for query in np.ascontiguousarray(queries, dtype=np.float32):
            keys = self._graph.search(query, min(CANDIDATES * number, len(self))).keys
            rows = np.sort(keys.astype(np.int64))
            cosines = self.vectors(rows) @ query
            order = np.argsort(-cosines, kind="stable")[:number]
            found.append((cosines[order], rows[order]))
        return found

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors of some rows, of length 1, float32 [n, D]."""
        if not len(rows):
            return np.zeros((0, self._graph.ndim), np.float32)
        return np.stack(self._graph.get(np.asarray(rows, dtype=np.uint64))).astype(np.float32)


def index_file(table: Path, layer: str) -> Path:
    """Where the index of a layer of a table lies.

    >>> index_file(Path("runs/photos/embeddings/2024.parquet"), "h").name
    '2024.h.usearch'
    """
    return table.with_name(f"{table.stem}.{layer}.usearch")


def vectors_digest(parts: Iterable[Vectors], width: int) -> str:
    """A hash of the vectors, which are given part by part.

    >>> rows = np.eye(3, dtype=np.float32)
    >>> vectors_digest([rows], 3) == vectors_digest([rows[:1], rows[1:]], 3)
    True
    """
    state = _new_hash(width)
    for part in parts:
        state.update(_content(part))
    return state.hexdigest()


def build_index(
    path: Path, parts: Iterable[Vectors], *, count: int, width: int, version: Version
) -> VectorIndex:
    """Build the index of ``count`` vectors and write it to ``path``, whole or not at all.

    All cores work on it. ``parts``: the vectors [n, width] in the order of the table, of any
    length. Takes about 4 width + 150 bytes a row, in memory as in the file. Two builds may differ
    a little: the threads take turns.
    Raises MissingExtra, StorageError.
    """
    index = require_usearch()
    graph = index.Index(ndim=width, metric="ip", dtype="f32")
    state = _new_hash(width)
    with progress("Index", count) as advance:
        for part in parts:
            state.update(_content(part))
            for start in range(0, len(part), ADDED_ROWS):
                unit = unit_vectors(part[start : start + ADDED_ROWS])
                graph.add(np.arange(len(graph), len(graph) + len(unit), dtype=np.uint64), unit)
                advance(len(unit))
    with replacing(path) as temporary:
        try:
            graph.save(temporary)
        except RuntimeError as error:
            raise StorageError(f"Could not write {path}: {error}.") from error
        with temporary.open("ab") as stream:
            stream.write(_stamp(version, state.hexdigest(), stream.tell()))
    return VectorIndex(graph)


def open_index(path: Path, version: Version, digest: Callable[[], str]) -> VectorIndex | None:
    """The index in ``path``; None where there is none, or it is of other vectors or damaged.

    ``version``: of the table now. Where it is another than that of the index, the vectors may be
    the same (a column was added, the file was copied): ``digest`` computes their hash.
    Raises MissingExtra.
    """
    index = require_usearch()
    try:
        with open_regular(path) as stream:
            length = stream.seek(0, os.SEEK_END) - STAMP_BYTES
            stream.seek(max(length, 0))
            stamp = json.loads(stream.read(STAMP_BYTES))
        if stamp["magic"] != MAGIC or stamp["length"] != length:
            return None
        graph = index.Index.restore(path, view=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    if graph is None:
        return None
    if version is None or stamp["version"] != list(version):
        if stamp["vectors"] != digest():
            return None
        # A stamp that is half written cannot be read: then the index is built again.
        with contextlib.suppress(OSError), path.open("rb+") as stream:
            stream.seek(length)
            stream.write(_stamp(version, stamp["vectors"], length))
    return VectorIndex(graph)


def require_usearch() -> Any:
    """The module usearch.index. Raises MissingExtra where it is not installed."""
    try:
        from usearch import index
    except ImportError as error:
        raise MissingExtra("usearch", "index", "An index") from error
    return index


def _new_hash(width: int) -> hashlib.blake2b:
    return hashlib.blake2b(f"{width} ".encode(), digest_size=16)


def _content(part: Vectors) -> memoryview:
    return np.ascontiguousarray(part, dtype=np.float32).data


def _stamp(version: Version, vectors: str, length: int) -> bytes:
    known = {"magic": MAGIC, "version": version, "vectors": vectors, "length": length}
    return json.dumps(known).encode().ljust(STAMP_BYTES)
