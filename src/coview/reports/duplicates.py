"""The page of copies: contradicting labels first, then leaks, then the most similar ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.core.files import write_bytes
from coview.core.text import plural
from coview.core.version import VERSION
from coview.reports.document import Section, build_document
from coview.reports.html import Markup, tag
from coview.reports.pictures import Pixels, image_uri

SIDE = 128
"""Of a picture on the page: the longer side in pixels."""
PAGE_GROUPS = 300
"""Groups that the page shows; the table has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An image of a group, its picture uint8 [H, W, 3], and its most similar copy in words."""

    name: str
    label: str
    part: str
    similarity: float
    kind: str
    pixels: Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A group of copies; ``left_out``: images that are not shown."""

    number: int
    contradicts: bool
    leaks: bool
    similarity: float
    images: tuple[Copy, ...]
    left_out: int = 0


def write_duplicates_page(
    path: Path, groups: Sequence[Copies], *, sentences: Sequence[str], title: str,
    number: int, encoder: str | None = None,
) -> Path:  # fmt: skip
    """Write the page of ``groups``, the first of ``number``; returns ``path``.

    ``sentences``: what a reader should know first. ``encoder``: whose vectors gave candidates too.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = Path(folder, "copies.html")
    ...     write_duplicates_page(page, [], sentences=["No copies."], title="photos", number=0).name
    'copies.html'
    """
    wrong = [group for group in groups if group.contradicts]
    leaks = [group for group in groups if group.leaks and not group.contradicts]
    rest = [group for group in groups if not (group.contradicts or group.leaks)]
    sections: list[Section] = [
        _section("labels", "Contradicting labels", wrong),
        _section("leaks", "In more than one part", leaks),
        _section("copies", "Copies", rest),
    ]
    notes = [
        "Similarity is 1 for identical pixels. Each image has that of its most similar copy."
        if groups
        else "",
        f"The encoder {encoder} proposed pairs too; the pixels decided." if encoder else "",
        f"The page shows the first {len(groups):,} of {number:,} groups; the table has all."
        if number > len(groups)
        else "",
    ]
    header = tag(
        "header", tag("h1", f"Copies in {title}"),
        [tag("p", text, class_="sentence") for text in sentences],
        [tag("p", note, class_="note") for note in notes if note],
    )  # fmt: skip
    page = build_document(f"Copies in {title}: Coview", header, sections, version=VERSION)
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def _section(identifier: str, title: str, groups: Sequence[Copies]) -> Section:
    if not groups:
        return None
    count = tag("p", plural(len(groups), "group"), class_="note")
    return identifier, title, [
        count, tag("div", [_group(group) for group in groups], class_="copy-groups"),
    ]  # fmt: skip


def _group(group: Copies) -> Markup:
    more = f"and {plural(group.left_out, 'more image')}" if group.left_out else None
    # Class and part stand out where they are what is wrong.
    emphasis = "strong" if group.contradicts or group.leaks else "span"
    return tag(
        "div", tag("h3", f"Group {group.number}"),
        tag("div", [_figure(image, emphasis) for image in group.images], class_="copies"),
        more and tag("p", more, class_="note"),
        class_="copy-group" + " copy-series" * (len(group.images) > 2),
    )  # fmt: skip


def _figure(image: Copy, emphasis: str) -> Markup:
    height, width = image.pixels.shape[:2]
    label = ", ".join(text for text in (image.label, image.part) if text)
    return tag(
        "figure",
        tag("div", tag("img", src=image_uri(image.pixels), alt=image.name, width=width,
                       height=height, loading="lazy"), class_="copy-frame"),
        tag(
            "figcaption", tag("bdi", image.name, class_="file", title=image.name),
            label and tag(emphasis, label), tag("span", f"{image.similarity:.3f}, {image.kind}"),
        ),
        class_="copied",
    )  # fmt: skip
