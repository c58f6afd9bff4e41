"""The nearest images to one image, or to several examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.options import takes
from coview.core.places import place_of
from coview.core.progress import say
from coview.core.user_code import import_files
from coview.data.sources import is_path
from coview.data.spec import data_settings
from coview.embeddings.index import require_usearch
from coview.embeddings.search import directions_of
from coview.embeddings.table import EmbeddingTable
from coview.options import SearchOptions
from coview.runs.embed import embeddings_of
from coview.runs.inputs import STDIN
from coview.runs.load import load_subject, say_verdict
from coview.runs.own_images import images_of
from coview.runs.search_pictures import write_page
from coview.runs.search_queries import Queries
from coview.runs.search_results import (
    EXAMPLE,
    ITSELF,
    SAME,
    Hit,
    SearchResult,
    SearchResults,
    examples_in_words,
)
from coview.runs.search_scores import approximate_scores, exact_scores
from coview.runs.subjects import on_device
from coview.training import choose_device


@takes(SearchOptions)
def search(options: SearchOptions) -> SearchResults:
    """The images of ``in_`` that are nearest to each of ``queries``, by the cosine of a layer.

    Exact, unless ``index`` asks for an approximate search. With ``together`` or ``negative`` the
    queries are examples of one thing: images are ranked by the cosine with the unit vector of
    mean(p / |p|) - 0.5 mean(n / |n|) over the positive examples p and the negative ones n. A query
    that is among the images comes first, marked, and does not count to ``number``. ``in_``: images,
    or the table of them; by default those of the run. Their vectors are kept as
    :func:`coview.embed` keeps them.
    Raises DataError for a query that cannot be read, MissingExtra for ``index`` without USearch,
    and as :func:`coview.embed`.

    >>> import coview
    >>> from PIL import Image
    >>> Image.new("RGB", (8, 8), "red").save("red.png")
    >>> (result,) = coview.search("runs/scenes", "red.png", in_="scenes", limit=50, number=3)
    >>> len(result.hits), result.hits[0].score > result.hits[2].score
    (3, True)
    """
    import_files(options.import_)
    if options.index:
        require_usearch()
    if not (options.together or options.negative):
        _refuse_folders(options.queries)
    out, page = options.out, options.html
    say_verdict(options.run)
    subject = load_subject(options.run, options.checkpoint)
    subject.require_layers([options.layer])
    device = choose_device(options.device)
    subject = on_device(subject, device)
    positive = Queries.open(options.queries, subject, options, device)
    negative = None
    if options.negative:
        negative = Queries.open(options.negative, subject, options, device)
    data, images = images_of(options, "in_")
    table = embeddings_of(
        options.run, data, layers=[options.layer], checkpoint=options.checkpoint,
        device=options.device, **data_settings(images),
    )  # fmt: skip
    directions, examples = directions_of(
        positive.vectors, None if negative is None else negative.vectors,
        together=options.together,
    )  # fmt: skip
    hashes = np.asarray(table.column("pixel_hash"), np.int64)
    marks = [_marks(table, hashes, positive, chosen) for chosen in examples]
    scores_of = approximate_scores if options.index else exact_scores
    scores = scores_of(table, options.layer, directions, options.number, marks)
    results = SearchResults()
    results.table = table
    for number, chosen in enumerate(examples):
        name = examples_in_words([positive.names[place] for place in chosen])
        without = "" if negative is None else f", unlike {examples_in_words(negative.names)}"
        hits = _hits(table, scores[number], marks[number], options.number)
        results.append(SearchResult(name + without, hits))
    if out is not None:
        results.write_csv(out)
        say(f"Results: {out}")
    if page is not None:
        write_page(page, results, positive, examples, negative, options)
        say(f"Page: {page}")
    return results


def _refuse_folders(queries: Any) -> None:
    """Raise InvalidValue for a folder, whose images would be as many searches."""
    for word in queries if isinstance(queries, list | tuple) else [queries]:
        if is_path(word) and word != STDIN and place_of(word).is_folder:
            raise InvalidValue(
                f"`queries` names {word}, a folder. To search by all its images as examples of one "
                f"thing, give `together`; to search for each of them, name the files, as "
                f"{Path(word) / '*.jpg'}."
            )


def _marks(
    table: EmbeddingTable, hashes: npt.NDArray[np.int64], queries: Queries, chosen: Sequence[int]
) -> dict[int, str]:
    """The rows of the table that are a query, or have the pixels of one, by their ``hashes``."""
    marks: dict[int, str] = {}
    own_mark = ITSELF if len(chosen) == 1 else EXAMPLE
    for number in chosen:
        rows = np.flatnonzero(hashes == queries.content[number])
        found = table.take(rows, ["path"]).column("path").to_pylist()
        for row, path in zip(rows.tolist(), map(table.resolve, found), strict=True):
            own = queries.paths[number]
            is_query = own is not None and path is not None and own.resolve() == path.resolve()
            if marks.get(row, SAME) == SAME:
                marks[row] = own_mark if is_query else SAME
    return marks


def _hits(
    table: EmbeddingTable, scores: dict[int, float], marks: dict[int, str], number: int
) -> tuple[Hit, ...]:
    """The queries, then the ``number`` best of the other rows."""
    ranked = sorted(scores, key=lambda row: (-scores[row], row))
    queries = [row for row in ranked if marks.get(row, SAME) != SAME]
    rows = queries + [row for row in ranked if row not in queries][:number]
    found = table.take(np.array(rows, np.int64), ["name", "path", "class"]).to_pylist()
    return tuple(
        Hit(
            row, min(scores[row], 1.0), each["name"], table.resolve(each["path"]), each["class"],
            marks.get(row, ""),
        )
        for row, each in zip(rows, found, strict=True)
    )  # fmt: skip
