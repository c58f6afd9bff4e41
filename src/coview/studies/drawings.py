"""The pictures of a study as HTML: a matrix whose cells are colored, and curves.

A drawing is an object of study.json: "kind", "title" and "axis", and

- for a "matrix" "rows", "columns", "values" and "published", both rows of numbers or None, and
  "mean", the head of a column with the means of the rows, or "" for none;
- for "curves" "lines" with "name", "points", pairs of numbers, and perhaps "intervals", for each
  point the ends of one or None; perhaps "levels" with "name", "height" and "interval", "note",
  "unit", "reach", heights that the axis includes, and "log_x", for another axis than the usual one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from coview.reports.curves import Chart, Level, Line, chart_figure
from coview.reports.formatting import MISSING
from coview.reports.html import Markup, tag

MANY = 30
"""From so many points on, a curve is drawn without dots."""
WITHOUT_PLACE = "Dashed: without a place on the axis, their intervals at the right border."
FEW = 5
"""Up to so many places of points are marked on the axis themselves, as networks by their number."""
Numbers = Sequence[Sequence[float | None]]


def drawing(content: Mapping[str, Any]) -> Markup:
    """One drawing under its title; nothing where no figure is there yet."""
    draw = {"matrix": _matrices, "curves": _curves}[content["kind"]]
    return draw(content)


def _matrices(content: Mapping[str, Any]) -> Markup:
    published = content["published"]
    has_published = any(value is not None for row in published for value in row)
    return tag(
        "section", tag("h2", content["title"]),
        tag("p", content["axis"], class_="lead"),
        matrix_table("here", content, content["values"]),
        matrix_table("published", content, published) if has_published else None,
    )  # fmt: skip


def matrix_table(caption: str, content: Mapping[str, Any], values: Numbers) -> Markup:
    """A table whose cells are the darker, the higher their value.

    >>> drawn = {"rows": ["a"], "columns": ["b", "c"], "mean": "row mean"}
    >>> "50%" in matrix_table("here", drawn, [[1.0, 3.0]])
    True
    """
    known = [value for row in values for value in row if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    mean = content.get("mean", "")
    body = [
        tag(
            "tr", tag("th", name, scope="row"), [_cell(value, low, high) for value in row],
            tag("td", row_mean(row), class_="num") if mean else None,
        )
        for name, row in zip(content["rows"], values, strict=True)
    ]  # fmt: skip
    names = ("", *content["columns"], *([mean] if mean else []))
    heads = [tag("th", name, scope="col", class_="num") for name in names]
    table = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", body)
    )
    return tag("div", table, class_="scroll")


def _cell(value: float | None, low: float, high: float) -> Markup:
    if value is None:
        return tag("td", MISSING, class_="num")
    share = (value - low) / (high - low) if high > low else 0.0
    # The color is mixed with the page's own background, so that it suits a dark page too.
    style = f"background:color-mix(in srgb, var(--good) {4 + 46 * share:.0f}%, transparent);"
    style += "padding:6px 10px"
    return tag("td", f"{value:.1f}", class_="num", style=style)


def row_mean(row: Sequence[float | None]) -> str:
    """The mean of a row of a matrix, as text; a dash where a value is not there yet.

    >>> row_mean([1.0, 4.0]), row_mean([1.0, None])
    ('2.5', '\N{EN DASH}')
    """
    known = [value for value in row if value is not None]
    return f"{statistics.fmean(known):.1f}" if len(known) == len(row) else MISSING


def _curves(content: Mapping[str, Any]) -> Markup:
    chart = chart_of(content)
    return tag(
        "section", tag("h2", content["title"]), None if chart.is_empty else chart_figure(chart)
    )


def chart_of(content: Mapping[str, Any]) -> Chart:
    """The chart of a drawing of the kind "curves"; empty where no line has a point."""
    lines = [
        Line(
            name=line["name"], dots=len(line["points"]) < MANY,
            points=([x for x, _ in line["points"]], [y for _, y in line["points"]]),
            intervals=line.get("intervals", ()),
        )
        for line in content["lines"]
        if line["points"]
    ]  # fmt: skip
    xs = sorted({x for line in lines for x in line.points[0]})
    levels = tuple(Level(**level) for level in content.get("levels", ()))
    beside = (WITHOUT_PLACE,) if any(level.interval for level in levels) else ()
    return Chart(
        title=content["title"], lines=lines, x_label=content["axis"], wide=True,
        levels=levels, levels_in_legend=True,
        note=" ".join([content.get("note", ""), *beside]).strip(), unit=content.get("unit", ""),
        x_ticks=tuple(xs) if len(xs) <= FEW else (), reach=tuple(content.get("reach", ())),
        log_x=bool(content.get("log_x", bool(xs) and min(xs) > 0 and max(xs) / min(xs) >= 16)),
    )  # fmt: skip
