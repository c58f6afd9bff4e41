"""The nearest images to one image, or to several examples."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue, RunError
from coview.core.files import write_text
from coview.core.options import takes
from coview.core.places import Kind, output_file, place_of
from coview.core.progress import say
from coview.core.user_code import import_files
from coview.data.spec import DataSpec
from coview.data.stream import ImageStream
from coview.embeddings.search import directions_of, nearest_rows, unit_rows
from coview.embeddings.table import EmbeddingTable
from coview.evaluation import Subject
from coview.evaluation.features import vectors_of_parts
from coview.options import DataOptions, SearchOptions
from coview.runs.embed import embeddings_of
from coview.runs.inputs import images_named
from coview.runs.load import load_subject
from coview.runs.run import Run
from coview.training import choose_device

ITSELF, SAME = "the query", "same pixels"
"""What is said of a found image that is a query, and of another one with its pixels."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A found image: its row in the table, its cosine to the query, and what is known of it.

    ``mark``: "the query", "same pixels" (a copy of the query), or "".
    """

    row: int
    score: float
    name: str
    path: Path | None
    class_name: str | None
    mark: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The images nearest to one query, the nearest first, the query itself before them.

    ``query``: the image, or the examples.
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
                rank += hit.mark != ITSELF
                rows.append({
                    "query": result.query, "rank": rank if hit.mark != ITSELF else 0,
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


@takes(SearchOptions)
def search(options: SearchOptions) -> SearchResults:
    """The images of ``in_`` that are nearest to each of ``queries``, by the cosine of a layer.

    Exact. With ``together`` or ``negative`` the queries are examples of one thing: images are
    ranked by the cosine with the unit vector of mean(p / |p|) - 0.5 mean(n / |n|) over the positive
    examples p and the negative ones n. A query that is among the images comes first, marked, and
    does not count to ``number``. ``in_``: images, or the table of them; by default those of the
    run. Their vectors are kept as :func:`coview.embed` keeps them.
    Raises DataError for a query that cannot be read, and as :func:`coview.embed`.

    >>> import coview
    >>> from PIL import Image
    >>> Image.new("RGB", (8, 8), "red").save("red.png")
    >>> (result,) = coview.search("runs/scenes", "red.png", in_="scenes", limit=50, number=3)
    >>> len(result.hits), result.hits[0].score > result.hits[2].score
    (3, True)
    """
    import_files(options.import_)
    if options.number < 1:
        raise InvalidValue(f"`number` is {options.number}; expected at least 1.")
    out = None if options.out is None else output_file(options.out, (".csv",))
    page = None if options.html is None else output_file(options.html, (".html",))
    subject = load_subject(options.run, options.checkpoint)
    subject.require_layers([options.layer])
    device = choose_device(options.device)
    subject = replace(subject, encoder=subject.encoder.to(device))
    positive = Queries.open(options.queries, subject, options, device)
    negative = None
    if options.negative:
        negative = Queries.open(options.negative, subject, options, device)
    data = options.in_ if options.in_ is not None else _own_images(options)
    table = embeddings_of(
        options.run, data, layers=[options.layer], checkpoint=options.checkpoint,
        **_data_options(options),
    )  # fmt: skip
    directions, examples = directions_of(
        positive.vectors, None if negative is None else negative.vectors,
        together=options.together,
    )  # fmt: skip
    unit = unit_rows(table.vectors(options.layer))
    marks = [_marks(table, positive, chosen) for chosen in examples]
    extra = max(map(len, marks))
    cosines, rows = nearest_rows(unit, directions, min(options.number + extra, len(table)))
    results = SearchResults()
    results.table = table
    for number, chosen in enumerate(examples):
        scores = dict(zip(rows[number].tolist(), cosines[number].tolist(), strict=True))
        scores |= {row: float(unit[row] @ directions[number]) for row in marks[number]}
        name = ", ".join(positive.names[place] for place in chosen)
        without = "" if negative is None else f", unlike {', '.join(negative.names)}"
        hits = _hits(table, scores, marks[number], options.number)
        results.append(SearchResult(name + without, hits))
    if out is not None:
        results.write_csv(out)
        say(f"Results: {out}")
    if page is not None:
        from coview.runs.search_pictures import write_page

        write_page(page, results, positive, examples, negative, options, subject.view.size)
        say(f"Page: {page}")
    return results


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queries:
    """Images that are searched for: names as the user gave them, vectors float32 [M, D].

    ``pictures``: the decoded images.
    """

    names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    vectors: npt.NDArray[np.float32]
    content: npt.NDArray[np.int64]
    pictures: tuple[npt.NDArray[np.uint8], ...]

    @classmethod
    def open(cls, words: Any, subject: Subject, options: SearchOptions, device: Any) -> Queries:
        """Decode and embed. Raises DataError for a query that cannot be read."""
        data = images_named(words)
        spec = DataSpec.of(
            data, size=subject.view.size, short_side=options.short_side, white=options.white,
            max_pixels=options.max_pixels,
        )  # fmt: skip
        stream = spec.stream(data)
        found: dict[int, tuple[Any, ...]] = {}
        parts = list(stream.parts(np.arange(len(stream))))
        if stream.quarantine:
            name, reason = stream.quarantine[0]
            raise DataError(f"The query {name} cannot be read: {reason}.")
        vectors = vectors_of_parts(
            subject, [part for _, part in parts], [options.layer], device=device
        )
        for (rows, part), (_, values) in zip(parts, vectors, strict=True):
            for place, row in enumerate(rows.tolist()):
                vector = values[options.layer][place].numpy()
                found[row] = (vector, int(part.content[place]), part.image(place))
        order, names = _in_given_order(data, stream)
        return cls(
            names=tuple(names), paths=tuple(stream.path(row) for row in order),
            vectors=np.stack([found[row][0] for row in order]),
            content=np.array([found[row][1] for row in order], dtype=np.int64),
            pictures=tuple(found[row][2] for row in order),
        )  # fmt: skip


def _in_given_order(data: Any, stream: ImageStream) -> tuple[list[int], list[str]]:
    """The rows of the queries and their names, as the user gave them; those of a folder by name."""
    paths = {stream.path(row): row for row in range(len(stream))}
    given = data if isinstance(data, list) else [data]
    if all(isinstance(word, str | Path) for word in given):
        places = [place_of(word).path for word in given]
        if all(place in paths for place in places):
            return [paths[place] for place in places], [str(word) for word in given]
    return list(range(len(stream))), [stream.name(row) for row in range(len(stream))]


def _marks(table: EmbeddingTable, queries: Queries, chosen: Sequence[int]) -> dict[int, str]:
    """The rows of the table that are a query, or have the pixels of one."""
    marks: dict[int, str] = {}
    hashes = table.column("pixel_hash")
    for number in chosen:
        rows = np.flatnonzero(hashes == queries.content[number])
        found = table.take(rows, ["path"]).column("path").to_pylist()
        for row, path in zip(rows.tolist(), map(table.resolve, found), strict=True):
            own = queries.paths[number]
            is_query = own is not None and path is not None and own.resolve() == path.resolve()
            if marks.get(row) != ITSELF:
                marks[row] = ITSELF if is_query else SAME
    return marks


def _hits(
    table: EmbeddingTable, scores: dict[int, float], marks: dict[int, str], number: int
) -> tuple[Hit, ...]:
    """The queries, then the ``number`` best of the other rows."""
    ranked = sorted(scores, key=lambda row: (-scores[row], row))
    itself = [row for row in ranked if marks.get(row) == ITSELF]
    rows = itself + [row for row in ranked if marks.get(row) != ITSELF][:number]
    found = table.take(np.array(rows, np.int64), ["name", "path", "class"]).to_pylist()
    return tuple(
        Hit(
            row, min(scores[row], 1.0), each["name"], table.resolve(each["path"]), each["class"],
            marks.get(row, ""),
        )
        for row, each in zip(rows, found, strict=True)
    )  # fmt: skip


def _own_images(options: SearchOptions) -> Any:
    """The images of the run that is searched with."""
    if place_of(options.run).kind is Kind.RUN:
        source = Run.open(options.run).data.images.source
        if source is not None:
            return list(source) if isinstance(source, tuple) else source
    raise RunError(f"{options.run} does not say which images to search; name them by `in_`.")


def _data_options(options: SearchOptions) -> dict[str, Any]:
    names = [field.name for field in fields(DataOptions)]
    return {name: getattr(options, name) for name in (*names, "device")}
