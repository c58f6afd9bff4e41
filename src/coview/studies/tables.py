"""What a study shows: a table of its arms, a matrix with colors, or curves; as JSON objects."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from coview.evaluation.statistics import mean_interval
from coview.reports.formatting import MINUS, MISSING
from coview.studies.arms import Values
from coview.studies.claims import signed
from coview.studies.measure import PER_CENT


def arm_table(values: Values, published: str) -> dict[str, Any]:
    """One row for each arm: the mean over seeds and its interval, of every measure.

    ``published``: in words, what the paper's figures are of.
    """
    shows_published = any(arm.published is not None for arm in values.arms)
    rows = [
        [
            arm.name,
            *(
                shown(values.known(arm.name, each.name), percent=each.factor == PER_CENT)
                for each in values.measures
            ),
            *([MISSING if arm.published is None else f"{arm.published:g}"] * shows_published),
        ]
        for arm in values.arms
    ]  # fmt: skip
    note = "Mean over the seeds and its 95 % interval (Student)."
    if shows_published:
        note += f" Published: {published}."
    return {
        "title": "Figures", "note": note, "rows": rows,
        "columns": [
            "arm", *(each.name for each in values.measures), *(["published"] * shows_published),
        ],
    }  # fmt: skip


def matrix(values: Values, axis: str) -> dict[str, Any]:
    """The first measure by rows and columns; ``axis`` says what they are."""
    rows = list(dict.fromkeys(arm.row for arm in values.arms))
    columns = list(dict.fromkeys(arm.column for arm in values.arms))
    at = {(arm.row, arm.column): values.known(arm.name) for arm in values.arms}
    cells = [[_mean(at.get((row, column), [])) for column in columns] for row in rows]
    published = {(arm.row, arm.column): arm.published for arm in values.arms}
    return {
        "kind": "matrix", "title": values.measures[0].name, "axis": axis,
        "rows": rows, "columns": columns,
        "values": cells,
        "published": [[published.get((row, column)) for column in columns] for row in rows],
    }  # fmt: skip


def curves(values: Values, axis: str) -> dict[str, Any]:
    """The first measure over the places ``x`` of the arms, one line for each ``row``."""
    lines: dict[str, list[list[float]]] = {}
    for arm in values.arms:
        mean = _mean(values.known(arm.name))
        if arm.x is not None and mean is not None:
            lines.setdefault(arm.row, []).append([arm.x, mean])
    return {
        "kind": "curves", "title": values.measures[0].name, "axis": axis,
        "lines": [{"name": name, "points": sorted(points)} for name, points in lines.items()],
    }  # fmt: skip


def histories(values: Values, axis: str) -> list[dict[str, Any]]:
    """The first measure while the runs trained, over epochs and over ``axis``: one line for each
    arm, the mean of its seeds.

    ``x`` of an arm is how much of ``axis`` an epoch is; without it the arm has epochs alone.
    """
    measure = values.measures[0]
    lines = {arm.name: values.history(arm.name) for arm in values.arms}
    drawings = [
        {
            "kind": "curves", "title": measure.name, "axis": "epoch",
            "lines": [{"name": name, "points": points} for name, points in lines.items()],
        }
    ]  # fmt: skip
    scaled = [(arm, arm.x) for arm in values.arms if arm.x is not None]
    if scaled:
        drawings.append({
            "kind": "curves", "title": f"{measure.name}, by {axis}", "axis": axis,
            "lines": [
                {"name": arm.name, "points": [[x * each, y] for x, y in lines[arm.name]]}
                for arm, each in scaled
            ],
        })  # fmt: skip
    return drawings


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


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
