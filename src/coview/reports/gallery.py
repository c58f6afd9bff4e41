"""Pictures of a run: nearest neighbors, the map of the features, the hardest pairs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.reports.formatting import cosine, count
from coview.reports.html import Child, Markup, script_data, tag
from coview.reports.pictures import Pixels, image_uri, make_sheet
from coview.reports.records import Record

MAX_POINTS, MAX_QUERIES, MAX_NEIGHBORS, MAX_PAIRS, MAX_GROUPS = 2000, 16, 10, 24, 21
MAX_SHEET_CHARACTERS, MAX_THUMBNAIL_SIDE = 2_500_000, 64
SIDE, MARGIN, RADIUS = 600, 18, 4.0
COLORS = 7


def neighbor_rows(record: Record) -> Markup | None:
    """Query images with their nearest neighbors and cosines; None without a gallery."""
    gallery = record.gallery
    if not _has(gallery, "thumbnails", "query_rows", "neighbor_rows", "neighbor_cosines"):
        return None
    rows = zip(
        gallery["query_rows"], gallery["neighbor_rows"], gallery["neighbor_cosines"], strict=False
    )
    blocks = [_neighbors(record, *row) for row in list(rows)[:MAX_QUERIES]]
    return tag("div", blocks, class_="neighbors") if any(blocks) else None


def hardest_pairs(record: Record) -> Markup | None:
    """Pairs of views of one image with the lowest cosine; None without a gallery."""
    gallery = record.gallery
    if not _has(gallery, "pair_views", "pair_cosines", "pair_names"):
        return None
    pairs = zip(gallery["pair_views"], gallery["pair_cosines"], gallery["pair_names"], strict=False)
    figures = [
        tag(
            "figure",
            [_picture(view, f"view {i + 1} of {name!s}") for i, view in enumerate(views)],
            tag("figcaption", tag("span", cosine(similarity), class_="cosine"), _name(name)),
            class_="pair",
        )
        for views, similarity, name in list(pairs)[:MAX_PAIRS]
    ]
    return tag("div", figures, class_="pairs") if figures else None


def embedding_map(record: Record) -> Markup | None:
    """The map with its legend; a thumbnail appears on hover, touch and with the arrow keys."""
    places, thumbnails = record.gallery.get("map"), record.gallery.get("thumbnails")
    if places is None or thumbnails is None or places.shape[1:] != (2,):
        return None
    number = min(len(places), len(thumbnails), MAX_POINTS)
    pixels = np.nan_to_num(np.clip(places[:number].astype(float), 0, 1), nan=0.5)
    points = np.round(MARGIN + pixels * (SIDE - 2 * MARGIN), 1)
    groups, titles = group_labels(_labels(record, number), record.class_names)
    drawing = tag(
        "svg", [_dots(points[groups == group], group) for group in range(len(titles))],
        tag("g", class_="cursor"), viewBox=f"0 0 {SIDE} {SIDE}", role="application",
        aria_label=f"Map of {count(number)} images; the arrow keys move from image to image",
        tabindex=0, id="map",
    )  # fmt: skip
    data = {
        "points": points.tolist(), "groups": groups.tolist(), "titles": titles,
        "names": [str(name) for name in _names(record, number)], **_sheet(thumbnails[:number]),
    }  # fmt: skip
    frame = tag("div", drawing, tag("canvas", id="map-pictures", hidden=True), class_="map-frame")
    switch = tag("button", "Show pictures", type="button", id="map-switch", aria_pressed="false",
                 class_="switch")  # fmt: skip
    side = tag("div", switch, _legend(groups, titles), class_="map-side")
    return tag("div", frame, side, script_data("map-data", data), class_="map")


def group_labels(
    labels: npt.NDArray[np.int64], class_names: list[str]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Group of every image and the groups' titles.

    Each of the 21 most frequent classes is a group, in order of class. The other classes share one
    group, and images without a label another.

    >>> groups, titles = group_labels(np.array([1, 0, 1, -1]), ["cat", "dog"])
    >>> groups.tolist(), titles
    ([1, 0, 1, 2], ['cat', 'dog', 'without a label'])
    """
    sizes = Counter(int(label) for label in labels if label >= 0)
    frequent = sorted(label for label, _ in sizes.most_common(MAX_GROUPS))
    titles = [class_names[k] if k < len(class_names) else f"class {k}" for k in frequent]
    groups = np.full(len(labels), -1, dtype=np.int64)
    for group, label in enumerate(frequent):
        groups[labels == label] = group
    rest = (groups < 0) & (labels >= 0)
    if rest.any():
        groups[rest] = len(titles)
        titles.append(f"{count(len(sizes) - len(frequent))} other classes")
    if (groups < 0).any():
        groups[groups < 0] = len(titles)
        titles.append("without a label" if titles else "images")
    return groups, titles


def shape_path(group: int, x: float, y: float) -> str:
    """The mark of a group as an SVG path: 7 discs, then 7 squares, then triangles."""
    r = RADIUS
    if group // COLORS == 0:
        return f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
    if group // COLORS == 1:
        return f"M{x - r:g} {y - r:g}h{2 * r:g}v{2 * r:g}h{-2 * r:g}z"
    return f"M{x:g} {y - 1.2 * r:g}l{1.15 * r:g} {2 * r:g}h{-2.3 * r:g}z"


def _neighbors(
    record: Record, query: int, rows: npt.NDArray[Any], cosines: npt.NDArray[Any]
) -> Markup | None:
    thumbnails = record.gallery["thumbnails"]
    if not 0 <= query < len(thumbnails):
        return None
    labels, names = _labels(record, len(thumbnails)), _names(record, len(thumbnails))
    neighbors = [
        _neighbor(thumbnails[row], names[row], float(similarity), _same(labels, query, row))
        for row, similarity in list(zip(rows, cosines, strict=False))[:MAX_NEIGHBORS]
        if 0 <= row < len(thumbnails)
    ]
    label, classes = int(labels[query]), record.class_names
    title = classes[label] if 0 <= label < len(classes) else _name(names[query])
    caption = tag("figcaption", title or _name(names[query]), class_="query-name")
    picture = _picture(thumbnails[query], f"query {names[query]!s}")
    return tag(
        "div", tag("figure", picture, caption, class_="query"), tag("ol", neighbors), class_="row"
    )


def _neighbor(pixels: Pixels, name: Any, similarity: float, same: bool | None) -> Markup:
    kind = {True: "same", False: "different", None: None}[same]
    suffix = {True: ", same class", False: ", another class", None: ""}[same]
    return tag(
        "li",
        tag(
            "figure",
            _picture(pixels, f"{name!s}, cosine {cosine(similarity)}{suffix}"),
            tag("figcaption", cosine(similarity), class_="cosine"),
        ),
        class_=kind,
    )


def _same(labels: npt.NDArray[np.int64], query: int, row: int) -> bool | None:
    if labels[query] < 0 or labels[row] < 0:
        return None
    return bool(labels[query] == labels[row])


def _dots(points: npt.NDArray[Any], group: int) -> Markup:
    path = "".join(shape_path(group, x, y) for x, y in points)
    return tag("path", d=path, class_=f"points c{group % COLORS}", data_group=group)


def _legend(groups: npt.NDArray[np.int64], titles: list[str]) -> Markup | None:
    if len(titles) < 2:
        return None
    sizes = np.bincount(groups, minlength=len(titles))
    entries: list[Child] = []
    for group, title in enumerate(titles):
        mark = tag("path", d=shape_path(group, 8, 8), class_=f"c{group % COLORS}")
        icon = tag("svg", mark, viewBox="0 0 16 16", class_="mark", aria_hidden="true")
        size = tag("span", count(sizes[group]), class_="muted")
        button = tag(
            "button", icon, tag("bdi", title), size,
            type="button", aria_pressed="false", data_group=group,
        )  # fmt: skip
        entries.append(tag("li", button))
    return tag("ul", entries, class_="classes", aria_label="Classes: press one to show it alone")


def _sheet(thumbnails: Pixels) -> dict[str, Any]:
    """All thumbnails as one picture, at a lower resolution where it would be too large."""
    first = max(1, thumbnails.shape[1] // MAX_THUMBNAIL_SIDE)
    for step in (first, 2 * first, 4 * first):
        coarse = thumbnails[:, ::step, ::step]
        pixels, columns = make_sheet(coarse)
        uri = image_uri(pixels, quality=75)
        if len(uri) <= MAX_SHEET_CHARACTERS:
            break
    return {"sheet": uri, "columns": columns, "size": int(coarse.shape[1])}


def _picture(pixels: Pixels, text: str) -> Markup:
    height, width = pixels.shape[:2]
    return tag("img", src=image_uri(pixels), alt=text, title=text, width=width, height=height)


def _has(gallery: dict[str, npt.NDArray[Any]], *names: str) -> bool:
    return all(name in gallery and len(gallery[name]) for name in names)


def _labels(record: Record, number: int) -> npt.NDArray[np.int64]:
    labels = record.gallery.get("labels")
    if labels is None or len(labels) < number:
        return np.full(number, -1, dtype=np.int64)
    return labels[:number].astype(np.int64)


def _names(record: Record, number: int) -> list[Any]:
    names = record.gallery.get("names")
    if names is None or len(names) < number:
        return [f"image {row}" for row in range(number)]
    return list(names[:number])


def _name(name: Any) -> Markup:
    return tag("bdi", str(name), class_="file", title=str(name))
