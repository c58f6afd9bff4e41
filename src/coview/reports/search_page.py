"""The page of a search: each query beside the images that are nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.core.files import write_text
from coview.core.text import plural
from coview.core.version import VERSION
from coview.reports.document import Section, build_document
from coview.reports.formatting import cosine
from coview.reports.html import Child, Markup, tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image on the page: ``uri`` is its data URI, or None where the image cannot be shown.

    ``address``: of the file, which a click opens. ``note``: its class, and a mark.
    """

    name: str
    uri: str | None
    score: float | None = None
    note: str = ""
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """A search: its examples, the negative ones, and what was found, the nearest first."""

    title: str
    positive: Sequence[Picture]
    negative: Sequence[Picture]
    found: Sequence[Picture]


def write_search_page(
    path: Path, rows: Sequence[SearchRow], *, source: str, images: int, approximate: bool = False
) -> Path:
    """Write the page; returns ``path``. ``source`` says where the images are from.

    ``approximate``: whether nearer images may have been missed.

    >>> import tempfile
    >>> picture = Picture(name="a.jpg", uri=None, score=0.5)
    >>> row = SearchRow(title="a.jpg", positive=[picture], negative=[], found=[picture])
    >>> write_search_page(Path(tempfile.mkdtemp(), "x.html"), [row], source="x", images=3).name
    'x.html'
    """
    sections: list[Section] = [
        (f"query-{number}", row.title, _result(row)) for number, row in enumerate(rows, 1)
    ]
    by_examples = any(len(row.positive) > 1 or row.negative for row in rows)
    to = "direction of the examples" if by_examples else "query"
    missed = " The search was approximate: nearer images may be missing." if approximate else ""
    header = tag(
        "header", tag("h1", f"The nearest of {plural(images, 'image')}"),
        tag("p", f"From {source}. Under each image its cosine to the {to}, at most 1." + missed,
            class_="state"),
    )  # fmt: skip
    write_text(path, build_document("Coview search", header, sections, version=VERSION))
    return path


def _result(row: SearchRow) -> Markup:
    examples: list[Child] = [_figure(each, "query") for each in row.positive]
    if row.negative:
        examples += [tag("p", "unlike", class_="query-name")]
        examples += [_figure(each, "query") for each in row.negative]
    found = tag("ol", [tag("li", _figure(each, "found")) for each in row.found])
    return tag("div", tag("div", examples, class_="examples"), found, class_="row search-row")


def _figure(picture: Picture, kind: str) -> Markup:
    if picture.uri is None:
        image = tag("p", "no picture", class_="no-picture")
    else:
        image = tag("img", src=picture.uri, alt=picture.name, loading="lazy")
    if picture.address is not None:
        image = tag("a", image, href=picture.address, title=f"Open {picture.name}")
    # As many digits as in the terminal: the cosines of neighbors differ by little.
    figure = None if picture.score is None else cosine(picture.score, digits=4)
    score = figure and tag("span", figure, class_="cosine")
    note = tag("span", picture.note, class_="found-note") if picture.note else None
    name = tag("span", tag("bdi", picture.name), class_="file", title=picture.name)
    return tag("figure", image, tag("figcaption", score, note, name), class_=kind)
