"""Which charts a run has: loss, accuracy, health figures, and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coview.core.figures import FIGURES, REFERENCE_FIGURES, START_WORDS, Figure
from coview.reports.curves import Chart, Format, Level, Line, recent_mean
from coview.reports.formatting import cosine, count, decimal, percent
from coview.reports.records import Record, Series, number, part, series

FORMATS: dict[str, Format] = {
    "share": percent, "cosine": cosine, "number": decimal, "count": count,
}  # fmt: skip
CHANCE_LEVEL, LOWER_BOUND = "chance level", "lower bound (estimate)"
TEST = "test"
"""The line of the test images of a run that learns classes or objects."""

# Reference figures that the note of a chart gives: figure -> (reference figure, words).
REFERENCES = {
    "instance_accuracy_z": [
        ("color_instance_accuracy", "by color histograms"),
        ("thumbnail_instance_accuracy", "by 8 x 8 thumbnails"),
    ],
    "rank_h": [("width_h", "of")],
    "rank_z": [("width_z", "of")],
}
FOUND = FIGURES["piece_accuracy_h"]


def loss_chart(record: Record) -> Chart:
    """The training loss between chance level and lower bound, and the loss on test images."""
    levels = [
        (CHANCE_LEVEL, record.description.get("chance_level")),
        (LOWER_BOUND, record.description.get("lower_bound")),
    ]
    heights = [(name, height) for name, value in levels if (height := number(value)) is not None]
    tested = _points(record, record.validation, "loss")
    return Chart(
        title="Loss", note=loss_sentence(record),
        lines=[
            Line(name="loss", points=_points(record, record.steps, "loss"), noisy=True),
            *([Line(name=TEST, points=tested, dots=True)] if tested[0] else []),
        ],
        levels=tuple(Level(name=name, height=height) for name, height in heights),
        x_label=axis(record), wide=True,
    )  # fmt: skip


def loss_sentence(record: Record, others: Mapping[str, Record] | None = None) -> str:
    """Where the training loss is between the two: no learning, and the lowest in practice.

    The only sentence of a report on a loss; "" where the loss has no such levels. ``others``: runs
    by their names, ``record`` among them, of which it says how far each is on its own way: the
    lowest loss depends on the temperature. "" where their chance levels differ.
    """
    if record.kind == "detect":  # the loss of boxes has no chance level
        return ""
    runs = others or {"This one": record}
    _, losses = series(record.steps, "loss", axis="step")
    chance, bound = _loss_levels(record)
    if not losses or chance is None or len({_loss_levels(each)[0] for each in runs.values()}) > 1:
        return ""
    text = f"A network that has learned nothing has a loss of {decimal(chance)} (chance level)"
    bounds = {name: _loss_levels(each)[1] for name, each in runs.items()}
    is_one = len(set(bounds.values())) == 1
    if is_one:
        if bound is None:
            return f"{text}."
        text += f"; about {decimal(bound)} is the lowest in practice (lower bound)"
    # A learned temperature changes the scale of the loss.
    if any("temperature" in row for each in runs.values() for row in each.health):
        return f"{text}, at the first temperature."
    way = [
        (name, percent(max(0.0, (chance - recent_mean(own)) / (chance - lowest))), lowest)
        for name, each in runs.items()
        if (own := series(each.steps, "loss", axis="step")[1])
        if (lowest := bounds[name]) is not None
    ]
    if not way:
        return f"{text}."
    gone = ", ".join(
        f"{name}{'' if place else ' has gone'} {share}"
        + ("" if is_one else f" (to {decimal(lowest)})")
        for place, (name, share, lowest) in enumerate(way)
    )
    where = "of the way" if is_one else "of the way to its own lowest in practice (lower bound)"
    return f"{text}. {gone} {where}."


def _loss_levels(record: Record) -> tuple[float | None, float | None]:
    """(chance level, lower bound) of the training loss; no bound that is not below chance."""
    chance = number(record.description.get("chance_level"))
    bound = number(record.description.get("lower_bound"))
    return chance, None if chance is None or bound is None or bound >= chance else bound


def found_chart(record: Record) -> Chart:
    """Held-out images that are found again from a piece of them, measured while training."""
    chart = next((c for c in health_charts(record) if c.title == FOUND.label), None)
    return chart or Chart(title=FOUND.label, lines=[])


def knn_chart(record: Record) -> Chart:
    """Accuracy of nearest neighbors, measured while training."""
    last = record.knn[-1] if record.knn else {}
    start = number(record.knn[0].get("accuracy")) if _has_start(record.knn) else None
    return Chart(
        title="kNN while training",
        note=f"accuracy with {last.get('k', '?')} neighbors on held-out images",
        lines=[Line(name="kNN", points=_points(record, record.knn, "accuracy"), dots=True)],
        levels=(*_start(record, start), *_class_chance(record)),
        x_label=axis(record), format=percent,
    )  # fmt: skip


def accuracy_chart(record: Record) -> Chart:
    """Accuracy of a classifier on test and training images, measured while training."""
    rows = record.validation
    lines = [
        Line(name=name, points=points, dots=True)
        for name, key in (
            (TEST, "accuracy"),
            ("training", "train_accuracy"),
            (f"as the teacher, {TEST}", "agreement"),
            ("as the teacher, training", "train_agreement"),
        )
        if (points := _points(record, rows, key))[0]
    ]
    return Chart(
        title="Accuracy while training", note="on test images and on training images",
        lines=lines, levels=_class_chance(record), x_label=axis(record), format=percent,
    )  # fmt: skip


def detection_chart(record: Record) -> Chart:
    """AP50 or the mean IoU of test and of training images, measured while training."""
    rows = record.validation
    lines = [
        Line(name=name, points=points, dots=True)
        for name, key in ((TEST, "value"), ("training", "train_value"))
        if (points := _points(record, rows, key))[0]
    ]
    figure = str(rows[-1].get("figure", "")) if rows else ""
    return Chart(
        title=f"{figure} while training", note="of at most 200 test and 200 training images",
        lines=lines, x_label=axis(record), format=percent,
    )  # fmt: skip


def health_charts(record: Record) -> list[Chart]:
    """One chart per health figure, each with the network at step 0 as a dashed line."""
    rows = [{**row, **_with_position(part(row, "figures"))} for row in record.health]
    start = rows[0] if _has_start(rows) else {}
    names = [*FIGURES, *(key for row in record.health for key in part(row, "figures"))]
    charts = []
    for name in dict.fromkeys(names):
        if name in REFERENCE_FIGURES:
            continue
        figure = FIGURES.get(name) or Figure(
            label=name.replace("_", " ").capitalize(), explanation=""
        )
        charts.append(
            Chart(
                title=figure.label, note=_note(name, figure, rows[-1] if rows else {}),
                lines=[Line(name=figure.label, points=_points(record, rows, name), dots=True)],
                levels=_start(record, number(start.get(name))), x_label=axis(record),
                format=FORMATS[figure.format],
            )
        )  # fmt: skip
    return charts


def _with_position(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, with the held-out loss as its share of the way from chance level to lower bound:
    these are others than the training loss has, whose batch is of another size."""
    loss, chance, bound = (number(figures.get(k)) for k in ("loss", "chance_level", "lower_bound"))
    if loss is None or chance is None or bound is None or chance <= bound:
        return {**figures, "loss": None}
    return {**figures, "loss": (chance - loss) / (chance - bound)}


def machine_charts(record: Record) -> list[Chart]:
    """Learning rate, gradient norm and images per second."""
    entries = [
        ("learning_rate", "Learning rate", decimal, False),
        ("gradient_norm", "Gradient norm", decimal, True),
        ("images_per_second", "Images per second", count, True),
    ]
    return [
        Chart(
            title=title,
            lines=[Line(name=title, points=_points(record, record.steps, key), noisy=noisy)],
            x_label=axis(record), format=form, from_zero=True,
        )
        for key, title, form, noisy in entries
    ]  # fmt: skip


def axis(record: Record) -> str:
    """ "epoch" where the step lines have it, else "step"."""
    return "epoch" if series(record.steps, "epoch")[0] else "step"


def _points(record: Record, rows: list[dict[str, Any]], key: str) -> Series:
    return series(rows, key, axis=axis(record))


def _note(name: str, figure: Figure, row: dict[str, Any]) -> str:
    references = [
        f"{words} {FORMATS[REFERENCE_FIGURES[key].format](value)}"
        for key, words in REFERENCES.get(name, [])
        if (value := number(row.get(key))) is not None
    ]
    stated = figure.explanation.startswith(figure.better)
    better = "" if stated else f"{figure.better} is better"
    return "; ".join(filter(None, [figure.explanation, better, ", ".join(references)]))


def start_word(record: Record) -> str:
    """What step 0 of a run is called: "untrained", or "at the start" of one from weights."""
    return START_WORDS[record.description.get("start") is not None]


def _has_start(rows: list[dict[str, Any]]) -> bool:
    return bool(rows) and rows[0].get("step") == 0


def _start(record: Record, height: float | None) -> tuple[Level, ...]:
    return () if height is None else (Level(name=start_word(record), height=height),)


def _class_chance(record: Record) -> tuple[Level, ...]:
    classes = len(record.class_names)
    return (Level(name=CHANCE_LEVEL, height=1 / classes),) if classes else ()
