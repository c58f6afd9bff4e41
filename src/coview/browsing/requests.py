"""What a page asks of a collection: the replies as bytes and JSON, without any network."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.browsing.annotations import Annotation, Annotations, Change
from coview.browsing.collection import Collection, Floats
from coview.browsing.thumbnails import Thumbnails
from coview.core.errors import InvalidValue
from coview.embeddings.search import example_direction, nearest_rows, unit_vectors

SIDES = (48, 64, 96, 128, 256, 768)
"""Of pictures, in pixels: few, so that the cache serves most requests."""
MAX_BODY = 32 * 2**20
"""Bytes of a request: an image file, or the annotations of some 500,000 images."""
MAX_SHEET, MAX_NAMED, MAX_NEIGHBORS = 256, 1000, 200


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of a reply and its media type. ``is_fixed``: it is the same for a whole session."""

    body: bytes
    kind: str
    is_fixed: bool = False


class Requests:
    """The functions behind the addresses of a server; each takes texts of a query.

    They raise InvalidValue for what a page of ours does not ask.
    """

    def __init__(self, collection: Collection, annotations: Annotations) -> None:
        self.collection, self.annotations = collection, annotations
        self.thumbnails = Thumbnails(collection.store)
        self._index = Nearest(collection.vectors)
        self._encoding = threading.Lock()
        self._lower = [name.casefold() for name in collection.store.names]

    def arrays(self) -> Reply:
        return Reply(self.collection.arrays(), BYTES, is_fixed=True)

    def thumb(self, row: str, size: str) -> Reply:
        body = self.thumbnails.jpeg(self._row(row), _side(size))
        return Reply(body, "image/jpeg", is_fixed=True)

    def sheet(self, rows: str, size: str) -> Reply:
        places, missing = self._rows(rows, MAX_SHEET), list[int]()
        body = self.thumbnails.sheet(places, _side(size), missing=missing)
        return Reply(body, "image/jpeg", is_fixed=not missing)

    def images(self, rows: str) -> list[dict[str, Any]]:
        store, paths = self.collection.store, self.collection.paths
        return [
            {
                "row": row, "name": store.names[row],
                "path": None if paths[row] is None else str(paths[row]),
                "width": int(store.widths[row]), "height": int(store.heights[row]),
            }
            for row in self._rows(rows, MAX_NAMED)
        ]  # fmt: skip

    def find(self, text: str) -> Reply:
        """The rows whose names hold ``text``, in any case, as int32."""
        wanted = text.casefold()
        rows = [row for row, name in enumerate(self._lower) if wanted in name]
        return Reply(np.array(rows, dtype="<i4").tobytes(), BYTES)

    def neighbors(self, rows: str, k: str) -> dict[str, Any]:
        """The images nearest to one, or to the mean of several."""
        places = self._rows(rows, MAX_NAMED)
        return self._index.of_rows(np.array(places), _number("k", k, 1, MAX_NEIGHBORS))

    def similar(self, content: bytes, name: str, k: str) -> dict[str, Any]:
        """The images nearest to an image file."""
        if self.collection.encode is None:
            raise InvalidValue("This page has no encoder to search by an image file with.")
        count = _number("k", k, 1, MAX_NEIGHBORS)
        with self._encoding:  # a network runs once at a time
            vector = self.collection.encode(content, name)
        return self._index.of_vector(vector, count)

    def annotated(self) -> dict[str, Any]:
        """The annotations of all rows that have some, and the file that they are in."""
        return {
            "path": str(self.annotations.path),
            "rows": _lines(self.annotations.by_row),
        }

    def annotate(self, changes: Any) -> dict[str, Any]:
        """Write what :func:`parse_changes` reads; returns the rows before and after it.

        A page that is older than another one, or than the file, so changes what it was told to and
        learns the rest.
        """
        before = self.annotations.update(parse_changes(changes))
        after = {row: self.annotations.by_row.get(row, Annotation()) for row in before}
        return {
            "path": str(self.annotations.path), "before": _lines(before), "rows": _lines(after)
        }  # fmt: skip

    def _row(self, text: str) -> int:
        return _number("row", text, 0, len(self.collection) - 1)

    def _rows(self, text: str, most: int) -> list[int]:
        texts = text.split(",", most)
        if len(texts) > most:
            raise InvalidValue(f"`rows` has more than {most} rows.")
        return [self._row(each) for each in texts]


BYTES = "application/octet-stream"


class Nearest:
    """Exact nearest neighbors among vectors [N, D] of any length, by cosine."""

    def __init__(self, vectors: Floats) -> None:
        self._unit = unit_vectors(vectors)

    def of_rows(self, rows: npt.NDArray[np.int64], k: int) -> dict[str, Any]:
        """The k nearest to the mean direction of ``rows``, without these themselves."""
        direction = example_direction(self._unit[rows])
        cosines, nearest = nearest_rows(self._unit, direction[None], k + len(rows))
        others = ~np.isin(nearest[0], rows)
        return _reply(nearest[0][others][:k], cosines[0][others][:k])

    def of_vector(self, vector: Floats, k: int) -> dict[str, Any]:
        cosines, nearest = nearest_rows(self._unit, unit_vectors(vector[None]), k)
        return _reply(nearest[0], cosines[0])


def _reply(rows: npt.NDArray[np.int64], cosines: Floats) -> dict[str, Any]:
    return {"rows": rows.tolist(), "cosines": [round(float(cosine), 5) for cosine in cosines]}


def _lines(annotations: Mapping[int, Annotation]) -> list[list[Any]]:
    return [[row, value.label, list(value.tags)] for row, value in annotations.items()]


def parse_changes(changes: Any) -> Mapping[int, Change]:
    """[[row, label or None, [tag to add, ...], [tag to remove, ...]], ...]. Raises InvalidValue.

    >>> parse_changes([[3, "cat", ["nice"], []]])
    {3: Change(label='cat', add=('nice',), remove=())}
    """
    try:
        parsed = {}
        for row, label, add, remove in changes:
            texts = label is None or isinstance(label, str)
            if type(row) is not int or not texts or not _are_texts(add) or not _are_texts(remove):
                raise TypeError(row)
            parsed[row] = Change(label, tuple(add), tuple(remove))
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(
            "The changes are no list of [row, label, [tag, ...], [tag, ...]]; load the page again."
        ) from error
    return parsed


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _side(text: str) -> int:
    side = _number("size", text, 1, SIDES[-1])
    return next(each for each in SIDES if each >= side)


def _number(name: str, text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not least <= int(text) <= most:
        raise InvalidValue(f"`{name}` is {text[:40]!r}; expected a number from {least} to {most}.")
    return int(text)


def single(query: Mapping[str, Sequence[str]], name: str) -> str:
    """The one value of ``name`` in a query. Raises InvalidValue."""
    values = query.get(name, ())
    if len(values) != 1:
        raise InvalidValue(f"The address lacks `{name}`.")
    return values[0]
