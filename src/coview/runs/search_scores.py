"""The cosines of a search: of all images, or of those that an index finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coview.core.errors import InvalidValue
from coview.core.files import exists
from coview.core.progress import say
from coview.core.text import plural
from coview.embeddings.index import VectorIndex, build_index, index_file, open_index, vectors_digest
from coview.embeddings.search import Vectors, nearest_rows, unit_vectors
from coview.embeddings.table import EmbeddingTable

Marks = Sequence[Mapping[int, str]]
Scores = list[dict[int, float]]
"""For each query the cosine of each row that was found, its marked rows among them."""


def exact_scores(
    table: EmbeddingTable, layer: str, directions: Vectors, number: int, marks: Marks
) -> Scores:
    """The ``number`` nearest rows to each of ``directions`` beside its marked ones."""
    unit = unit_vectors(table.vectors(layer))
    wanted = min(number + max(map(len, marks)), len(table))
    cosines, rows = nearest_rows(unit, directions, wanted)
    return [
        dict(zip(rows[query].tolist(), cosines[query].tolist(), strict=True))
        | {row: float(unit[row] @ direction) for row in marks[query]}
        for query, direction in enumerate(directions)
    ]


def approximate_scores(
    table: EmbeddingTable, layer: str, directions: Vectors, number: int, marks: Marks
) -> Scores:
    """As :func:`exact_scores`, of the rows that the index finds. It is built where there is none.

    Raises InvalidValue for a table in memory, MissingExtra, StorageError.
    """
    index = index_of(table, layer)
    say(
        "The search is approximate: nearer images may be missing. The cosines are exact.",
        detail=True,
    )
    found = index.nearest_rows(directions, number + max(map(len, marks)))
    scores: Scores = []
    for direction, marked, (cosines, rows) in zip(directions, marks, found, strict=True):
        own = np.array(sorted(marked), dtype=np.int64)
        scores.append(
            dict(zip(rows.tolist(), cosines.tolist(), strict=True))
            | dict(zip(own.tolist(), (index.vectors(own) @ direction).tolist(), strict=True))
        )
    return scores


def index_of(table: EmbeddingTable, layer: str) -> VectorIndex:
    """The index of a layer of ``table``, from the file beside it if that is of these vectors."""
    if table.path is None:
        raise InvalidValue(
            "`index` needs a table that is a file; write it first with `table.write(PATH)`, or "
            "search without `index`."
        )
    path, width = index_file(table.path, layer), table.width(layer)
    known = open_index(
        path, table.version, lambda: vectors_digest(table.vector_parts(layer), width)
    )
    if known is not None:
        return known
    why = " in place of one of other vectors" if exists(path) else ""
    say(f"An index of {plural(len(table), 'image')} is built once{why}: {path}", detail=True)
    return build_index(
        path, table.vector_parts(layer), count=len(table), width=width, version=table.version
    )
