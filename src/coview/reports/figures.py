"""Which charts a run has: loss, representation without labels, and the machine."""

from __future__ import annotations

from typing import Any

from coview.reports.curves import Chart, Format, Level, Line
from coview.reports.formatting import cosine, count, decimal, percent
from coview.reports.records import Record, Series, number, part, series

# figure -> title, how to read it, how to write it
FIGURES: dict[str, tuple[str, str, Format]] = {
    "retrieval": ("View retrieval", "images whose two views find each other; higher is better",
                  percent),
    "retrieval_h": ("View retrieval by h", "the same with features instead of embeddings",
                    percent),
    "spread": ("Spread of z", "0: every image the same, 1: evenly around the sphere", decimal),
    "spread_h": ("Spread of h", "0: every image the same, 1: evenly around the sphere", decimal),
    "positive_cosine": ("Cosine, same image", "between two views of one image", cosine),
    "negative_cosine": ("Cosine, different images", "between views of different images", cosine),
    "rank_h": ("Effective rank of h", "directions that the features use", decimal),
    "rank_z": ("Effective rank of z", "directions that the embeddings use", decimal),
    "alignment": ("Alignment", "squared distance of two views of an image; lower is better",
                  decimal),
    "uniformity": ("Uniformity", "lower: embeddings fill the sphere more evenly", decimal),
    "loss": ("Held-out loss", "of images that are never trained on, in one batch", decimal),
}  # fmt: skip

# Figures that no training changes: they are told in words beside the figure that they explain.
CONTEXT: dict[str, list[tuple[str, str, Format]]] = {
    "retrieval": [("color_retrieval", "colors alone match", percent),
                  ("thumbnail_retrieval", "tiny pictures alone", percent)],
    "rank_h": [("width_h", "of", count)],
    "rank_z": [("width_z", "of", count)],
    "loss": [("chance_level", "chance_level", decimal), ("lower_bound", "lower_bound", decimal)],
}  # fmt: skip
UNCHARTED = {"images", "scattered", "identical_views"} | {
    name for entries in CONTEXT.values() for name, _, _ in entries
}


def loss_chart(record: Record) -> Chart:
    """The training loss between chance and the practical floor."""
    levels = [
        ("chance_level", record.run.get("chance_level")),
        ("lower_bound", record.run.get("lower_bound")),
    ]
    return Chart(
        title="Loss",
        note="chance: what guessing costs; floor: about the lowest loss that can be reached",
        lines=[Line(name="loss", points=along(record, record.steps, "loss"), noisy=True)],
        levels=tuple(
            Level(name=name, height=height)
            for name, value in levels
            if (height := number(value)) is not None
        ),
        across=axis(record),
        wide=True,
    )


def knn_chart(record: Record) -> Chart:
    """Accuracy of nearest neighbors, measured while training."""
    last = record.knn[-1] if record.knn else {}
    classes = len(record.class_names)
    return Chart(
        title="kNN while training",
        note=f"accuracy with {last.get('k', '?')} neighbors on held-out images",
        lines=[Line(name="kNN", points=along(record, record.knn, "accuracy"), dots=True)],
        levels=(
            *_untrained(number(record.knn[0].get("accuracy")) if _starts(record.knn) else None),
            *((Level(name="chance_level", height=1 / classes),) if classes else ()),
        ),
        across=axis(record),
        format=percent,
    )


def health_charts(record: Record) -> list[Chart]:
    """One chart per health figure, each with the untrained network as a dashed line."""
    lines = [{**line, **part(line, "figures")} for line in record.health]
    start = lines[0] if _starts(lines) else {}
    names = [*FIGURES, *(key for line in lines for key in part(line, "figures"))]
    charts = []
    for name in dict.fromkeys(names):
        if name in UNCHARTED:
            continue
        title, note, form = FIGURES.get(name, (name.replace("_", " ").capitalize(), "", decimal))
        charts.append(
            Chart(
                title=title,
                note=_context(note, name, lines[-1] if lines else {}),
                lines=[Line(name=title, points=along(record, lines, name), dots=True)],
                levels=_untrained(number(start.get(name))),
                across=axis(record),
                format=form,
            )
        )
    return charts


def machine_charts(record: Record) -> list[Chart]:
    """Learning rate, gradient and speed."""
    wanted = [
        ("learning_rate", "Learning rate", decimal, False),
        ("gradient_norm", "Gradient norm", decimal, True),
        ("images_per_second", "Images per second", count, True),
    ]
    return [
        Chart(
            title=title,
            lines=[Line(name=title, points=along(record, record.steps, key), noisy=noisy)],
            across=axis(record),
            format=form,
            from_zero=True,
        )
        for key, title, form, noisy in wanted
    ]


def axis(record: Record) -> str:
    """ "epoch" where the step lines know it, else "step"."""
    return "epoch" if series(record.steps, "epoch")[0] else "step"


def along(record: Record, lines: list[dict[str, Any]], key: str) -> Series:
    """The values of ``key`` along the axis that the whole report uses."""
    return series(lines, key, axis=axis(record))


def _context(note: str, name: str, figures: dict[str, Any]) -> str:
    entries = [
        f"{words} {form(found)}"
        for key, words, form in CONTEXT.get(name, [])
        if (found := number(figures.get(key))) is not None
    ]
    return "; ".join(filter(None, [note, ", ".join(entries)]))


def _starts(lines: list[dict[str, Any]]) -> bool:
    return bool(lines) and lines[0].get("step") == 0


def _untrained(height: float | None) -> tuple[Level, ...]:
    return () if height is None else (Level(name="untrained", height=height),)
