"""The pictures of a search, and its page."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError
from coview.core.files import exists
from coview.core.text import plural
from coview.data.stream import ImageStream, open_stream
from coview.embeddings.table import EmbeddingTable
from coview.options import SearchOptions
from coview.reports.pictures import data_uri, image_uri, shrink
from coview.reports.search_page import Picture, SearchRow, write_search_page
from coview.runs.embed import table_at
from coview.runs.embed_job import images_of_table
from coview.runs.search_queries import SIDE, Queries
from coview.runs.search_results import SearchResults

Pixels = npt.NDArray[np.uint8]


def write_page(
    path: Path, results: SearchResults, queries: Queries, examples: Sequence[Sequence[int]],
    negative: Queries | None, options: SearchOptions,
) -> None:  # fmt: skip
    """The page of ``results``; ``examples`` are the queries of each."""
    table = results.table
    assert table is not None
    rows = sorted({hit.row for result in results for hit in result.hits})
    uris = _uris(table, rows, options.in_)
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
    """The file of a search without its folder; of several their number, they have their names."""
    like = plural(len(chosen), "example")
    if len(chosen) == 1:
        like = Path(queries.names[chosen[0]]).name
    return like if negative is None else f"{like}, unlike {plural(len(negative.names), 'other')}"


def _pictures_of(queries: Queries) -> list[Picture]:
    return [
        Picture(name=name, uri=_uri(pixels), address=None if path is None else path.as_uri())
        for name, pixels, path in zip(queries.names, queries.pictures, queries.paths, strict=True)
    ]


def _uris(table: EmbeddingTable, rows: list[int], data: Any) -> dict[int, str]:
    """The picture of each row that has one: of the table, of its file, or of the data again."""
    places = np.array(rows, np.int64)
    if "image" in table.column_names:
        images = table.take(places, ["image"]).column("image").to_pylist()
        uris = [data_uri(each["bytes"], "image/jpeg") for each in images]
        return dict(zip(rows, uris, strict=True))
    found: dict[int, str] = {}
    with contextlib.suppress(CoviewError):  # the images are gone: the page has their names
        stream, row_of = _stream(table, rows, data)
        for places, part in stream.parts(np.array(sorted(row_of), np.int64)):
            for place, number in enumerate(places.tolist()):
                found[row_of[number]] = _uri(part.image(place))
    return found


def _stream(
    table: EmbeddingTable, rows: list[int], data: Any
) -> tuple[ImageStream, dict[int, int]]:
    """What decodes the images of ``rows``, and the row of each place in it that is wanted."""
    found = table.take(np.array(rows, np.int64), ["id", "path"])
    paths = [table.resolve(path) for path in found.column("path").to_pylist()]
    files = {path: row for path, row in zip(paths, rows, strict=True) if path and exists(path)}
    if files or not any(path is None for path in paths):
        stream = open_stream(sorted(map(str, files)), short_side=SIDE)
        return stream, {n: files[path] for n in range(len(stream)) if (path := stream.path(n))}
    stream = images_of_table(table).stream(data if table_at(data) is None else None)
    ids = dict(zip(found.column("id").to_pylist(), rows, strict=True))
    wanted = np.flatnonzero(np.isin(stream.ids, list(ids)))
    return stream, {n: ids[int(stream.ids[n])] for n in wanted.tolist()}


def _uri(pixels: Pixels) -> str:
    return image_uri(shrink(pixels, SIDE), quality=85)
