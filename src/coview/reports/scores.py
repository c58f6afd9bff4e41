"""The scores at the top of a run's report, each beside what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    title_of,
)

HEADLINES = {"knn": "kNN accuracy", "linear": "Linear accuracy"}
"""The protocols at the top of the page, and their titles where a file has none."""
CHANCE = "chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One accuracy and those that it has to beat, shares in [0, 1] by name.

    "chance" is the share of the largest class: the accuracy of a constant prediction.
    """

    title: str
    note: str
    value: float
    baselines: Mapping[str, float] = field(default_factory=dict)


def headline_scores(record: Record) -> list[Score]:
    """kNN and linear at the setting that represents them, never the best of several.

    Without an evaluation file the last kNN accuracy of the training stands in for it.
    """
    by_name = {name: _evaluation_score(record, name) for name in HEADLINES}
    if by_name["knn"] is None:
        by_name["knn"] = _training_score(record)
    return [score for score in by_name.values() if score]


def score_bars(score: Score) -> Markup:
    """The accuracy in large figures, above bars for it and its baselines."""
    shares = {"trained": score.value, **score.baselines}
    bars = [bar(name, share, f"bar {name}") for name, share in shares.items()]
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
    images = number(result.get("test_images"))
    tested = "" if images is None else f"; {count(images)} test images"
    baselines = {name: float(row[name]["value"]) for name in row if row[name] is not result}
    return Score(
        title=title_of({"title": HEADLINES[protocol], **evaluation}),
        note=f"on {result.get('layer')}, {setting_text(part(result, 'setting'))}{tested}",
        value=float(result["value"]),
        baselines=baselines if chance is None else {**baselines, CHANCE: chance},
    )


def _training_score(record: Record) -> Score | None:
    lines = [line for line in record.knn if number(line.get("accuracy")) is not None]
    if not lines:
        return None
    start, last = lines[0], lines[-1]
    baselines = {"untrained": float(start["accuracy"])} if start.get("step") == 0 else {}
    classes = len(record.class_names)
    return Score(
        title=HEADLINES["knn"],
        note=f"while training, {value(last.get('k'))} neighbors, on {last.get('layer', 'h')}",
        value=float(last["accuracy"]),
        baselines={**baselines, CHANCE: 1 / classes} if classes else baselines,
    )
