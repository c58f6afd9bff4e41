"""What a search finds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.files import write_text
from coview.embeddings.table import EmbeddingTable

ITSELF, EXAMPLE, SAME = "the query", "an example", "same pixels"
"""What is said of a found image that is the query or one of several, and of one with its pixels."""


NAMED = 3
"""Examples that the name of a search has."""


def examples_in_words(names: Sequence[str]) -> str:
    """The first names and how many there are beside.

    >>> examples_in_words(["a", "b"]), examples_in_words(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


@dataclass(frozen=True, slots=True)
class Hit:
    """A found image: its row in the table, its cosine to the query, and what is known of it.

    ``mark``: "the query", "an example" (of several), "same pixels" (a copy of one), or "".
    """

    row: int
    score: float
    name: str
    path: Path | None
    class_name: str | None
    mark: str = ""

    @property
    def is_query(self) -> bool:
        """Whether it is the query itself, or one of the examples."""
        return self.mark in (ITSELF, EXAMPLE)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The images nearest to one query, the nearest first, the query itself before them.

    ``query``: the image, or the first examples.
    """

    query: str
    hits: tuple[Hit, ...]


class SearchResults(list[SearchResult]):
    """A result for each query, and the table that was searched.

    >>> results = SearchResults([SearchResult("a.jpg", (Hit(0, 0.5, "b.jpg", None, "cat"),))])
    >>> results.to_rows()
    [{'query': 'a.jpg', 'rank': 1, 'score': 0.5, 'name': 'b.jpg', 'path': None, 'class': 'cat',
      'mark': ''}]
    """

    table: EmbeddingTable | None = None

    def to_rows(self) -> list[dict[str, Any]]:
        """A flat dict for each found image; the rank of a query in its own result is 0."""
        rows = []
        for result in self:
            rank = 0
            for hit in result.hits:
                rank += not hit.is_query
                rows.append({
                    "query": result.query, "rank": 0 if hit.is_query else rank,
                    "score": round(hit.score, 6), "name": hit.name,
                    "path": None if hit.path is None else str(hit.path),
                    "class": hit.class_name, "mark": hit.mark,
                })  # fmt: skip
        return rows

    def write_csv(self, path: Path) -> None:
        """The rows of :meth:`to_rows` as a CSV file."""
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, ["query", "rank", "score", "name", "path", "class", "mark"])
        writer.writeheader()
        writer.writerows(self.to_rows())
        write_text(path, stream.getvalue())
