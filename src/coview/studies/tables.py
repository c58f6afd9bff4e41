"""What a study shows: a table of its arms, a matrix with colors, or curves; as JSON objects."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from coview.evaluation.statistics import mean_interval
from coview.reports.formatting import MINUS, MISSING
from coview.studies.arms import Arm, Values
from coview.studies.claims import signed
from coview.studies.measure import Measure


def arm_table(values: Values, published: str) -> dict[str, Any]:
    """One row for each arm: the mean over seeds and its interval, of every measure, and beside it
    the paper's figure. Of a single arm one row for each measure.

    ``published``: in words, what the paper's figures are of.
    """
    columns = [_column(values, measure, first=not place)
               for place, measure in enumerate(values.measures)]  # fmt: skip
    note = (
        "Mean over the seeds and its 95 % interval (Student). Claims compare the arms seed by "
        "seed, which is more exact."
    )
    shows_published = any(any(text != MISSING for text in of_paper) for _, of_paper in columns)
    if shows_published:
        note += f" Published: {published}."
    table: dict[str, Any] = {"title": "Figures", "note": note}
    if len(values.arms) == 1:
        heads = [values.arms[0].name, *["published"] * shows_published]
        rows = [
            [measure.name, *here, *(of_paper if shows_published else [])]
            for measure, (here, of_paper) in zip(values.measures, columns, strict=True)
        ]
        return {**table, "columns": ["figure", *heads], "rows": rows}
    heads, cells = [], []
    for measure, (here, of_paper) in zip(values.measures, columns, strict=True):
        heads.append(measure.name)
        cells.append(here)
        if any(text != MISSING for text in of_paper):
            heads.append(f"{measure.name}, published")
            cells.append(of_paper)
    names = [arm.name for arm in values.arms]
    return {
        **table, "columns": ["arm", *heads],
        "rows": [list(row) for row in zip(names, *cells, strict=True)],
    }  # fmt: skip


def _column(values: Values, measure: Measure, *, first: bool) -> tuple[list[str], list[str]]:
    """The figures of all arms, here and in the paper, as text."""
    here = [
        shown(values.known(arm.name, measure.name), percent=measure.is_percent)
        for arm in values.arms
    ]
    of_paper = [arm.published_of(measure, first=first) for arm in values.arms]
    return here, [MISSING if figure is None else f"{figure:g}" for figure in of_paper]


def matrix(values: Values, axis: str, mean: str) -> dict[str, Any]:
    """The first measure by rows and columns; ``axis`` says what they are.

    ``mean``: the head of a further column with the mean of each row, or "" for none.
    """
    rows = list(dict.fromkeys(arm.row for arm in values.arms))
    columns = list(dict.fromkeys(arm.column for arm in values.arms))
    at = {(arm.row, arm.column): values.known(arm.name) for arm in values.arms}
    means = {place: statistics.fmean(known) for place, known in at.items() if known}
    published = {
        (arm.row, arm.column): arm.published_of(values.measures[0], first=True)
        for arm in values.arms
    }
    return {
        "kind": "matrix", "title": values.measures[0].name, "axis": axis, "mean": mean,
        "rows": rows, "columns": columns,
        "values": [[means.get((row, column)) for column in columns] for row in rows],
        "published": [[published.get((row, column)) for column in columns] for row in rows],
    }  # fmt: skip


def curves(values: Values, axis: str) -> list[dict[str, Any]]:
    """The first measure over the places ``x`` of the arms, one line for each ``row``.

    An arm without ``x`` is a level. Arms with an axis of their own are another drawing.
    """
    measure = values.measures[0]
    axes = list(dict.fromkeys(arm.axis or axis for arm in values.arms))
    drawings = []
    for each in axes:
        lines: dict[str, dict[float, list[float]]] = {}
        levels = []
        for arm in (arm for arm in values.arms if (arm.axis or axis) == each):
            known = values.known(arm.name)
            if known and arm.x is not None:
                lines.setdefault(arm.row, {})[arm.x] = known
            elif known:
                levels.append({
                    "name": arm.name, "height": statistics.fmean(known),
                    "interval": interval(known, percent=measure.is_percent),
                })  # fmt: skip
        drawings.append({
            **_curves_of(measure), "axis": each, "levels": levels,
            "title": measure.name if len(axes) == 1 else f"{measure.name}, by {each}",
            "lines": [
                line(name, points, percent=measure.is_percent) for name, points in lines.items()
            ],
        })  # fmt: skip
    return drawings


WHISKERS = "Means over the seeds with their 95 % intervals (Student)."


def _curves_of(measure: Measure) -> dict[str, Any]:
    """What all drawings of curves of a measure have."""
    return {"kind": "curves", "note": WHISKERS, "unit": " %" if measure.is_percent else ""}


def line(
    name: str, points: Mapping[float, Sequence[float]], *, percent: bool = False
) -> dict[str, Any]:
    """A line of a drawing: at each x the mean of its values and the interval of the mean.

    >>> line("a", {2.0: [50.0], 1.0: [60.0, 60.0]})["points"]
    [[1.0, 60.0], [2.0, 50.0]]
    """
    places = sorted(points)
    return {
        "name": name,
        "points": [[x, statistics.fmean(points[x])] for x in places],
        "intervals": [interval(points[x], percent=percent) for x in places],
    }


def interval(values: Sequence[float], *, percent: bool = False) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean, None for fewer than two values.

    ``percent``: as far as it lies within 0 to 100.

    >>> low, high = interval([90.0, 99.0], percent=True)
    >>> round(low, 1), high
    (37.3, 100.0)
    """
    if len(values) < 2:
        return None
    low, high = mean_interval(values)
    return (max(low, 0.0), min(high, 100.0)) if percent else (low, high)


def histories(values: Values, axis: str) -> list[dict[str, Any]]:
    """The first measure while the runs trained, over epochs and over ``axis``: one line for each
    arm, the mean of its seeds.

    ``x`` of an arm is how much of ``axis`` an epoch is; without it the arm has epochs alone.
    """
    measure = values.measures[0]
    series = {arm.name: values.history(arm.name) for arm in values.arms}

    def scaled(arm: Arm, factor: float) -> dict[str, Any]:
        points = {factor * epoch: of_seeds for epoch, of_seeds in series[arm.name].items()}
        return line(arm.name, points, percent=measure.is_percent)

    drawings = [{
        **_curves_of(measure), "title": measure.name, "axis": "epoch",
        "lines": [scaled(arm, 1.0) for arm in values.arms],
    }]  # fmt: skip
    if any(arm.x is not None for arm in values.arms):
        drawings.append({
            **_curves_of(measure), "title": f"{measure.name}, by {axis}", "axis": axis,
            "lines": [scaled(arm, arm.x) for arm in values.arms if arm.x is not None],
        })  # fmt: skip
    return drawings


def shown(values: Sequence[float], *, percent: bool = False, sign: bool = False) -> str:
    """Mean and interval in a cell of a table; ``sign``: of differences.

    ``percent``: an interval that would leave 0 to 100 is written by its ends within them.

    >>> shown([50.0, 52.0, 54.0]), shown([50.0]), shown([])
    ('52.0 \N{PLUS-MINUS SIGN} 5.0', '50.0', '\N{EN DASH}')
    >>> shown([90.0, 99.0], percent=True), shown([1.0], sign=True)
    ('94.5 (37.3 to 100.0)', '+1.0')
    """
    if not values:
        return MISSING
    mean = statistics.fmean(values)
    text = signed(mean) if sign else f"{mean:.1f}".replace("-", MINUS)
    if len(values) < 2:
        return text
    low, high = mean_interval(values)
    if percent and not 0 <= low <= high <= 100:
        return f"{text} ({max(low, 0.0):.1f} to {min(high, 100.0):.1f})"
    return f"{text} \N{PLUS-MINUS SIGN} {high - mean:.1f}"
