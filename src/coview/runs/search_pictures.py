"""The pictures of a search, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError
from coview.data.spec import DataSpec
from coview.data.stream import open_stream
from coview.embeddings.table import EmbeddingTable
from coview.options import SearchOptions
from coview.reports.pictures import data_uri, image_uri, shrink
from coview.reports.search_page import Picture, SearchRow, write_search_page
from coview.runs.search_queries import Queries
from coview.runs.search_results import SearchResults, examples_in_words

Pixels = npt.NDArray[np.uint8]

SIDE = 192
"""The longer side of a picture, in pixels."""


def write_page(
    path: Path, results: SearchResults, queries: Queries, examples: Sequence[Sequence[int]],
    negative: Queries | None, options: SearchOptions, size: int,
) -> None:  # fmt: skip
    """The page of ``results``; ``examples`` are the queries of each."""
    table = results.table
    assert table is not None
    rows = sorted({hit.row for result in results for hit in result.hits})
    uris = _uris(table, rows, options, size)
    positive = _pictures_of(queries)
    page_rows = [
        SearchRow(
            title=_title(queries, chosen, negative),
            positive=[positive[number] for number in chosen],
            negative=[] if negative is None else _pictures_of(negative),
            found=[
                Picture(
                    name=hit.name, uri=uris.get(hit.row), score=hit.score,
                    note=", ".join(filter(None, (hit.class_name, hit.mark))),
                    address=None if hit.path is None else hit.path.as_uri(),
                )
                for hit in result.hits
            ],
        )
        for result, chosen in zip(results, examples, strict=True)
    ]  # fmt: skip
    source = str(options.in_ if isinstance(options.in_, str | Path) else options.run)
    write_search_page(path, page_rows, source=source, images=len(table), approximate=options.index)


def _title(queries: Queries, chosen: Sequence[int], negative: Queries | None) -> str:
    """The files of a search without their folders."""
    without = "" if negative is None else f", unlike {_files(negative.names)}"
    return f"{_files([queries.names[number] for number in chosen])}{without}"


def _files(names: Sequence[str]) -> str:
    return examples_in_words([Path(name).name for name in names])


def _pictures_of(queries: Queries) -> list[Picture]:
    return [
        Picture(name=name, uri=_uri(pixels), address=None if path is None else path.as_uri())
        for name, pixels, path in zip(queries.names, queries.pictures, queries.paths, strict=True)
    ]


def _uris(
    table: EmbeddingTable, rows: list[int], options: SearchOptions, size: int
) -> dict[int, str]:
    """The picture of each row that has one: of the table, of its file, or of the data again."""
    places = np.array(rows, np.int64)
    if "image" in table.column_names:
        images = table.take(places, ["image"]).column("image").to_pylist()
        uris = [data_uri(each["bytes"], "image/jpeg") for each in images]
        return dict(zip(rows, uris, strict=True))
    paths = [table.resolve(p) for p in table.take(places, ["path"]).column("path").to_pylist()]
    found: dict[int, str] = {}
    try:
        if all(path is not None for path in paths):
            stream = open_stream(sorted({str(path) for path in paths}), short_side=SIDE)
            row_of = {path: row for row, path in zip(rows, paths, strict=True)}
            for places, part in stream.parts(np.arange(len(stream))):
                for place, number in enumerate(places.tolist()):
                    found[row_of[stream.path(number)]] = _uri(part.image(place))
        elif options.in_ is not None and not isinstance(options.in_, EmbeddingTable):
            stream = DataSpec.of(options.in_, options, size=size, needs_labels=None).stream(
                options.in_
            )
            ids = {int(table.ids[row]): row for row in rows}
            wanted = np.flatnonzero(np.isin(stream.ids, list(ids)))
            for places, part in stream.parts(wanted):
                for place, number in enumerate(places.tolist()):
                    found[ids[int(stream.ids[number])]] = _uri(part.image(place))
    except CoviewError:  # the images are gone: the page has their names
        return found
    return found


def _uri(pixels: Pixels) -> str:
    return image_uri(shrink(pixels, SIDE), quality=85)
