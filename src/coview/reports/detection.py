"""What a detector or a segmenter finds: its figures beside training from scratch, and pictures."""

from __future__ import annotations

from typing import Any

from coview.reports.evaluation import caveat_notes, images_note, tested_on
from coview.reports.formatting import MISSING, percent
from coview.reports.html import Child, Markup, tag
from coview.reports.pictures import picture_uri
from coview.reports.records import Record, number, part
from coview.reports.scores import bar
from coview.reports.tables import cut_table

PROTOCOL = "detect"
HEADLINES = {("boxes", "AP50"): "AP50 of boxes", ("pixels", "mIoU"): "Mean IoU"}
SIZES = {"APs": "AP, small", "APm": "AP, medium", "APl": "AP, large"}

LEAD = (
    "On {}. AP is COCO's average precision over "
    "IoU thresholds from 0.5 to 0.95, AP50 that at 0.5. Intervals of 95 % come from drawing the "
    "test images again. From scratch: the same network, recipe and images from random weights."
)
PICTURE = {
    "boxes": "Test images: true boxes are green, predicted ones orange with their score.",
    "pixels": "Test images in pairs: the true classes, and beside them the predicted ones.",
}


def detection_bars(record: Record) -> Markup | None:
    """The figure by which the run is judged, above bars; None without results."""
    for (layer, metric), title in HEADLINES.items():
        rows = [row for row in _results(record) if (row["layer"], row["metric"]) == (layer, metric)]
        if rows:
            bars = [
                bar(str(row["subject"]), row["value"], "bar" if place else "bar trained")
                for place, row in enumerate(rows)
            ]
            return tag(
                "div", tag("h2", title), tag("p", percent(rows[0]["value"]), class_="big"),
                tag("div", bars, class_="bars"),
                images_note(record.evaluation(PROTOCOL), rows[0].get("test_images")),
                class_="score",
            )  # fmt: skip
    return None


def detection_section(record: Record) -> list[Child] | None:
    """Tables of all figures and of the classes, and the pictures; None without results."""
    results = _results(record)
    if not results:
        return None
    evaluation = record.evaluation(PROTOCOL)
    layers = list(dict.fromkeys(row["layer"] for row in results))
    subjects = list(dict.fromkeys(str(row["subject"]) for row in results))
    blocks: list[Child] = [_figures(evaluation, results, layers, subjects)]
    blocks += caveat_notes(evaluation)
    blocks += [_classes(evaluation, layer, subjects) for layer in layers]
    blocks.append(_picture(record, layers))
    return [block for block in blocks if block]


def lead(record: Record) -> str:
    """What the figures of the section are of."""
    return LEAD.format(tested_on(record.evaluation(PROTOCOL)))


def _figures(
    evaluation: dict[str, Any],
    results: list[dict[str, Any]],
    layers: list[str],
    subjects: list[str],
) -> Markup:
    rows: list[tuple[Child, ...]] = []
    for layer in layers:
        own = [row for row in results if row["layer"] == layer]
        for metric in dict.fromkeys(row["metric"] for row in own):
            cells = [
                next((_cell(row) for row in own
                      if (row["metric"], row["subject"]) == (metric, subject)), MISSING)
                for subject in subjects
            ]  # fmt: skip
            rows.append((layer, metric, *cells))
        for key, name in SIZES.items():
            sizes = [
                number(part(part(evaluation, f"{layer} {subject}"), "by_size").get(key))
                for subject in subjects
            ]
            if any(value is not None for value in sizes):
                rows.append((layer, name, *(_share(value) for value in sizes)))
    for name, value in part(evaluation, "training").items():
        if number(value) is not None:
            empty = [MISSING] * (len(subjects) - 1)
            rows.append(("training images", name, _share(number(value)), *empty))
    numeric = tuple(range(2, 2 + len(subjects)))
    return cut_table(("of", "figure", *subjects), rows, numeric=numeric)


def _cell(row: dict[str, Any]) -> str:
    if not _is_pair(row.get("interval")):
        return percent(row["value"])
    low, high = (100 * float(bound) for bound in row["interval"])
    return f"{percent(row['value'])} ({low:.1f} to {high:.1f})"


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(number(v) is not None for v in value)


def _share(value: float | None) -> str:
    return MISSING if value is None else percent(value)


def _classes(evaluation: dict[str, Any], layer: str, subjects: list[str]) -> Markup | None:
    names = evaluation.get("classes")
    columns = [part(evaluation, f"{layer} {subject}").get("by_class") for subject in subjects]
    if not isinstance(names, list) or not all(
        isinstance(column, list) and len(column) == len(names) for column in columns
    ):
        return None
    lines: list[tuple[Any, ...]] = list(zip(names, *columns, strict=True))
    rows: list[tuple[Child, ...]] = [
        (tag("bdi", str(name)), *(_share(number(value)) for value in values))
        for name, *values in lines
        if any(number(value) is not None for value in values)
    ]
    figure = "IoU" if layer == "pixels" else "AP"
    title = f"{figure} of each class, {layer}"
    table = cut_table(("class", *subjects), rows, numeric=tuple(range(1, 1 + len(subjects))))
    return tag("details", tag("summary", title), table)


def _picture(record: Record, layers: list[str]) -> list[Markup] | None:
    picture = None if record.found is None else picture_uri(record.found)
    if picture is None:
        return None
    uri, width, height = picture
    text = PICTURE["pixels" if "pixels" in layers else "boxes"]
    return [
        tag("p", text, class_="lead"),
        tag("img", src=uri, alt=text, width=width, height=height, class_="sheet"),
    ]


def _results(record: Record) -> list[dict[str, Any]]:
    results = record.evaluation(PROTOCOL).get("results")
    return [
        result
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict)
        and all(isinstance(result.get(key), str) for key in ("layer", "metric", "subject"))
        and number(result.get("value")) is not None
    ]
