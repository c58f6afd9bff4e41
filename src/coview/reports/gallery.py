"""Pictures of a run: nearest neighbors, the map of the features, the hardest pairs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.reports.formatting import cosine, count
from coview.reports.html import Child, Markup, script_data, tag
from coview.reports.pictures import Pixels, data_uri, image_uri
from coview.reports.records import Record

MAX_QUERIES, MAX_NEIGHBORS, MAX_PAIRS, MAX_GROUPS = 16, 10, 24, 21
SIDE, MARGIN, RADIUS = 600, 18, 4.0
COLORS = 7
QUALITY = 85


def neighbor_rows(record: Record) -> Markup | None:
    """Held-out images with the training images nearest to each; None without a gallery."""
    gallery = record.gallery
    if not _has(gallery, "near_pictures", "near_names", "near_cosines"):
        return None
    names, pictures = gallery["near_names"], gallery["near_pictures"]
    if names.shape != pictures.shape[:2] or not _are_pictures(pictures):
        return None
    labels = gallery.get("near_labels")
    if labels is None or labels.shape != names.shape:
        labels = np.full(names.shape, -1, dtype=np.int64)
    rows = zip(pictures, names, labels, gallery["near_cosines"], strict=False)
    blocks = [_neighbors(*row, record.class_names) for row in list(rows)[:MAX_QUERIES]]
    return tag("div", blocks, class_="neighbors near") if blocks else None


def searched_images(record: Record) -> str:
    """Among which images the nearest were looked for, in words; "" where nobody knows."""
    numbers = [int(number) for number in record.gallery.get("searched", ())]
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1]:
        return ""
    searched, images = numbers
    if searched < images:
        return f"a random sample of {count(searched)} of the {count(images)} training images"
    return f"all {count(images)} training images"


def hardest_pairs(record: Record) -> Markup | None:
    """Pairs of views of one image with the lowest cosine; None without a gallery."""
    gallery = record.gallery
    if not _has(gallery, "pair_views", "pair_cosines", "pair_names"):
        return None
    if not _are_pictures(gallery["pair_views"]):
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


def map_images(record: Record) -> int:
    """The number of images on the map; 0 where there is no map."""
    gallery = record.gallery
    places, layout = gallery.get("map"), gallery.get("sheet_layout")
    if places is None or layout is None or places.shape[1:] != (2,) or layout.shape != (2,):
        return 0
    return len(places) if _has(gallery, "sheet") and min(layout) > 0 else 0


def embedding_map(record: Record) -> Markup | None:
    """The map with its legend; a picture appears on hover, touch and with the arrow keys."""
    number = map_images(record)
    if number == 0:
        return None
    places = np.nan_to_num(np.clip(record.gallery["map"].astype(float), 0, 1), nan=0.5)
    points, height = map_points(places)
    groups, titles = group_labels(_labels(record, number), record.class_names)
    drawing = tag(
        "svg", [_dots(points[groups == group], group) for group in range(len(titles))],
        tag("g", class_="cursor"), viewBox=f"0 0 {SIDE} {height}", role="application",
        aria_label=f"Map of {count(number)} images; the arrow keys move from image to image",
        tabindex=0, id="map",
    )  # fmt: skip
    columns, side = map(int, record.gallery["sheet_layout"])
    sheet = data_uri(record.gallery["sheet"].astype(np.uint8).tobytes(), "image/jpeg")
    data = {
        "points": points.tolist(), "groups": groups.tolist(), "titles": titles,
        "names": [str(name) for name in _names(record, number)],
        "sheet": sheet, "columns": columns, "size": side, "height": height,
    }  # fmt: skip
    pictures = tag("canvas", id="map-pictures", hidden=True)
    frame = tag("div", drawing, pictures, class_="map-frame", style=f"aspect-ratio:{SIDE}/{height}")
    switch = tag("button", "Show pictures", type="button", id="map-switch", aria_pressed="false",
                 class_="switch")  # fmt: skip
    side_bar = tag("div", switch, _legend(groups, titles), class_="map-side")
    return tag("div", frame, side_bar, script_data("map-data", data), class_="map")


def map_points(places: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Places in [0, 1] as units of the drawing, which is as high as they need; and its height.

    Both axes have one scale.

    >>> points, height = map_points(np.array([[0.0, 0.4], [1.0, 0.6]]))
    >>> points.tolist(), height
    ([[18.0, 93.6], [582.0, 206.4]], 300)
    """
    scaled = places * (SIDE - 2 * MARGIN)
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    height = max(SIDE // 2, round(float(high[1] - low[1]) + 2 * MARGIN))
    middle = np.array([SIDE / 2, height / 2])
    return np.round(scaled - (low + high) / 2 + middle, 1), height


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
    """The mark of a group as an SVG path: 7 discs, then 7 squares, then 7 triangles.

    Then a ring for the other classes, and a cross for images without a label.
    """
    r = RADIUS if group < MAX_GROUPS else RADIUS / 1.6
    if group > MAX_GROUPS:
        return f"M{x - r:g} {y:g}h{2 * r:g}M{x:g} {y - r:g}v{2 * r:g}"
    if group == MAX_GROUPS:
        group = 0
    if group // COLORS == 0:
        return f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
    if group // COLORS == 1:
        return f"M{x - r:g} {y - r:g}h{2 * r:g}v{2 * r:g}h{-2 * r:g}z"
    return f"M{x:g} {y - 1.2 * r:g}l{1.15 * r:g} {2 * r:g}h{-2.3 * r:g}z"


def _neighbors(
    pictures: npt.NDArray[Any], names: npt.NDArray[Any], labels: npt.NDArray[Any],
    cosines: npt.NDArray[Any], class_names: list[str],
) -> Markup:  # fmt: skip
    """One row: the query first, then its neighbors."""
    query = tag(
        "figure", _picture(pictures[0], f"held-out image {names[0]!s}"),
        tag("figcaption", _class(int(labels[0]), class_names), _name(names[0])), class_="query",
    )  # fmt: skip
    others = zip(pictures[1:], names[1:], labels[1:], cosines, strict=False)
    neighbors = [
        _neighbor(pixels, name, float(similarity), _same(int(labels[0]), int(label)))
        for pixels, name, label, similarity in list(others)[:MAX_NEIGHBORS]
    ]
    return tag("div", query, tag("ol", neighbors), class_="row")


def _neighbor(pixels: Pixels, name: Any, similarity: float, same: bool | None) -> Markup:
    kind = {True: "same", False: "different", None: None}[same]
    suffix = {True: ", same class", False: ", another class", None: ""}[same]
    return tag(
        "li",
        tag(
            "figure",
            _picture(pixels, f"{name!s}, cosine {cosine(similarity)}{suffix}"),
            tag("figcaption", _name(name), tag("span", cosine(similarity), class_="cosine")),
        ),
        class_=kind,
    )


def _same(query: int, label: int) -> bool | None:
    return None if query < 0 or label < 0 else query == label


def _class(label: int, class_names: list[str]) -> Markup | None:
    known = 0 <= label < len(class_names)
    return tag("bdi", class_names[label], class_="query-name") if known else None


def _color(group: int) -> str:
    return f"c{group % COLORS}" if group < MAX_GROUPS else "others"


def _dots(points: npt.NDArray[Any], group: int) -> Markup:
    path = "".join(shape_path(group, x, y) for x, y in points)
    return tag("path", d=path, class_=f"points {_color(group)}", data_group=group)


def _legend(groups: npt.NDArray[np.int64], titles: list[str]) -> Markup | None:
    if len(titles) < 2:
        return None
    sizes = np.bincount(groups, minlength=len(titles))
    entries: list[Child] = []
    for group, title in enumerate(titles):
        mark = tag("path", d=shape_path(group, 8, 8), class_=_color(group))
        icon = tag("svg", mark, viewBox="0 0 16 16", class_="mark", aria_hidden="true")
        size = tag("span", count(sizes[group]), class_="muted")
        button = tag(
            "button", icon, tag("bdi", title), size,
            type="button", aria_pressed="false", data_group=group,
        )  # fmt: skip
        entries.append(tag("li", button))
    return tag("ul", entries, class_="classes", aria_label="Classes: press one to show it alone")


def _picture(pixels: Pixels, text: str) -> Markup:
    height, width = pixels.shape[:2]
    uri = image_uri(pixels, quality=QUALITY)
    return tag("img", src=uri, alt=text, title=text, width=width, height=height)


def _are_pictures(array: npt.NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.shape[-1] == 3 and min(array.shape) > 0


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
