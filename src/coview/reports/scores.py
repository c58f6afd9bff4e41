"""The scores at the top of a run's report, each beside what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coview.core.metrics import metric_of
from coview.reports.formatting import count, percent, value
from coview.reports.html import Markup, tag
from coview.reports.records import Record, number, part
from coview.reports.results import (
    comparison_rows,
    first,
    headline_of,
    headline_row,
    metric_name,
    setting_text,
    short_source,
    title_of,
)

HEADLINES = {
    "knn": ("Names the class by the most similar images", "kNN accuracy"),
    "linear": ("Names the class by a simple classifier", "Linear accuracy"),
}
"""The protocols at the top of the page: what they measure in plain words, and their titles."""
OURS, UNTRAINED, PIXELS, CHANCE = "this network", "before training", "raw pixels", "by chance"
NAMES = {"trained": OURS, "untrained": UNTRAINED, "pixels": PIXELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One accuracy and those that it has to beat, shares in [0, 1] by name.

    ``title`` says in plain words what is measured, ``note`` by which figure. "by chance" is the
    share of the largest class, the accuracy of a constant prediction, or that of a random guess.
    """

    title: str
    note: str
    value: float
    baselines: Mapping[str, float] = field(default_factory=dict)


def headline_scores(record: Record) -> list[Score]:
    """Accuracies where there are labels, and how often unseen images are found again.

    kNN and linear at the setting that represents them, never the best of several; the notes name
    their test images. Without an evaluation file the last kNN accuracy of the training stands in
    for it.
    """
    by_name = {name: _evaluation_score(record, name) for name in HEADLINES}
    if by_name["knn"] is None:
        by_name["knn"] = _training_score(record)
    scores = [score for score in by_name.values() if score]
    return [*scores, *found_again(record)[: max(1, 2 - len(scores))]]


def found_again(record: Record) -> list[Score]:
    """Held-out images that are found again, from a gray piece and from a changed version of them;
    by the last health figures, beside functions of their pixels."""
    rows = [(row.get("step"), part(row, "figures")) for row in record.health]
    if not rows:
        return []
    last = rows[-1][1]
    start = rows[0][1] if rows[0][0] == 0 else {}
    images = number(last.get("images"))
    among = f"among {count(images)} held-out images" if images else "among held-out images"
    scores = []
    for title, key, cues, note in FOUND_AGAIN:
        share, before = number(last.get(key)), number(start.get(key))
        if share is None:
            continue
        beside = {name: number(last.get(cue)) for name, cue in cues.items()}
        baselines = {
            **({} if before is None or len(rows) == 1 else {UNTRAINED: before}),
            **{name: cue for name, cue in beside.items() if cue is not None},
            **({CHANCE: 1 / images} if images else {}),
        }
        scores.append(Score(title=title, note=f"{note}, {among}", value=share, baselines=baselines))
    return scores


FOUND_AGAIN: tuple[tuple[str, str, Mapping[str, str], str], ...] = (
    (
        "Finds an unseen image again by a gray piece of it", "piece_accuracy_h",
        {PIXELS: "piece_accuracy_pixels", "brightness": "piece_accuracy_levels"},
        "By features h of two gray pieces of each",
    ),
    (
        "Finds an unseen image again in other crop and color", "instance_accuracy_h",
        {PIXELS: "thumbnail_instance_accuracy", "color histogram": "color_instance_accuracy"},
        "By features h of two training views of each",
    ),
)  # fmt: skip
"""Title, figure, the same by functions of the pixels, and what it is measured on."""


def score_bars(score: Score) -> Markup:
    """The accuracy in large figures, above bars for it and its baselines."""
    shares = {OURS: score.value, **score.baselines}
    bars = [
        bar(name, share, "bar trained" if name == OURS else "bar") for name, share in shares.items()
    ]
    return tag(
        "div", tag("h2", score.title), tag("p", percent(score.value), class_="big"),
        tag("div", bars, class_="bars"), tag("p", score.note, class_="note"), class_="score",
    )  # fmt: skip


def bar(name: str, share: float, class_: str) -> Markup:
    """A name, a bar of the length of ``share`` in [0, 1], and the share in per cent."""
    return tag(
        "div", tag("span", name, class_="bar-name"), track(share),
        tag("span", percent(share), class_="bar-value"), class_=class_,
    )  # fmt: skip


def track(share: float) -> Markup:
    width = 100 * min(max(share, 0.0), 1.0)
    return tag("span", tag("i", style=f"width:{width:.1f}%"), class_="track", aria_hidden="true")


def _evaluation_score(record: Record, protocol: str) -> Score | None:
    evaluation = record.evaluation(protocol)
    rows = comparison_rows(evaluation.get("results"))
    if not rows:
        return None
    row = headline_row(rows, headline_of(evaluation))
    result, data = first(row), part(evaluation, "data")
    if metric_of(metric_name(result)).format != "share":
        return None
    classes = number(data.get("classes")) or len(record.class_names)
    chance = number(data.get("largest_class_share")) or (1 / classes if classes else None)
    images, source = number(result.get("test_images")), part(data, "test").get("source")
    source = f" of {short_source(source)}" if source else ""
    tested = "" if images is None else f"; {count(images)} test images{source}"
    plain, title = HEADLINES[protocol]
    setting = setting_text(part(result, "setting"))
    baselines = _named({name: row[name]["value"] for name in row if row[name] is not result})
    return Score(
        title=plain,
        note=f"{title_of({'title': title, **evaluation})} on {result.get('layer')}, "
        f"{setting}{tested}",
        value=float(result["value"]),
        baselines=baselines if chance is None else {**baselines, CHANCE: chance},
    )


def _named(shares: Mapping[str, Any]) -> dict[str, float]:
    return {NAMES.get(name, name): float(share) for name, share in shares.items()}


def _training_score(record: Record) -> Score | None:
    lines = [line for line in record.knn if number(line.get("accuracy")) is not None]
    if not lines:
        return None
    start, last = lines[0], lines[-1]
    baselines = {}
    if start.get("step") == 0:
        pixels = number(start.get("pixels"))
        baselines = {} if start is last else {UNTRAINED: float(start["accuracy"])}
        baselines |= {} if pixels is None else {PIXELS: pixels}
    classes = len(record.class_names)
    plain, title = HEADLINES["knn"]
    images = number(last.get("images"))
    tested = "" if images is None else f"; {count(images)} held-out images"
    return Score(
        title=plain,
        note=f"{title} on {last.get('layer', 'h')} while training, {value(last.get('k'))} "
        f"neighbors{tested}",
        value=float(last["accuracy"]),
        baselines={**baselines, CHANCE: 1 / classes} if classes else baselines,
    )
