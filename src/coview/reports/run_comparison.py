"""The page of several runs: one table, what differs, and their curves over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coview.core.figures import DIAGNOSES
from coview.core.files import write_bytes
from coview.core.text import plural
from coview.core.version import VERSION
from coview.reports import figures
from coview.reports.curves import Chart, chart_figure
from coview.reports.document import Section, build_document
from coview.reports.evaluation import figure_cell
from coview.reports.formatting import MISSING, count, value
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, read_record
from coview.reports.results import (
    by_interest,
    comparison_rows,
    first,
    headline_of,
    headline_row,
    title_of,
)

MAIN_CHARTS = ("Loss", "Accuracy while training", "kNN while training", figures.FOUND.label)
"""Those that readers look for, in this order; the others are folded away."""


def write_run_comparison(
    path: Path, runs: Mapping[str, Path], *, differences: Mapping[str, Mapping[str, Any]],
    sentences: Sequence[str],
) -> Path:  # fmt: skip
    """Write the page of ``runs``, folders by the names that they have on it; returns ``path``.

    ``differences``: the fields that are not equal in all runs, their values by name.
    ``sentences``: what tests say. Raises RunError where a folder is no run, StorageError.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text("{}")
    >>> write_run_comparison(folder / "both.html", {"a": folder, "b": folder}, differences={},
    ...     sentences=[]).name
    'both.html'
    """
    records = {name: read_record(folder) for name, folder in runs.items()}
    differ = _differences(list(runs), differences)
    said = [tag("p", text, class_="note") for text in sentences]
    faults = [text for record in records.values() for text in record.damaged]
    sections: list[Section] = [
        ("runs", "Runs", [_runs_table(records), said]),
        ("curves", "Curves", _curves(records)),
        ("differences", "What differs", differ),
    ]
    header = tag(
        "header", tag("h1", f"{plural(len(runs), 'run')} compared"),
        tag("p", ", ".join(runs), class_="state"),
        [tag("p", text, class_="damaged") for text in faults],
    )  # fmt: skip
    page = build_document(
        f"{', '.join(runs)}: Coview comparison", header, sections, version=VERSION
    )
    write_bytes(path, page.encode("utf-8", "replace"))
    return path


def _runs_table(records: Mapping[str, Record]) -> Markup:
    """Verdict, progress and the figure that represents each protocol, a row for each run."""
    cells = {name: _figures(record) for name, record in records.items()}
    titles = list(dict.fromkeys(title for own in cells.values() for title in own))
    head = [tag("th", name, scope="col") for name in ("run", "verdict")]
    head += [tag("th", name, scope="col", class_="num") for name in ("steps", *titles)]
    body = [
        tag(
            "tr", tag("th", tag("bdi", name), scope="row"), tag("td", _verdict(record)),
            tag("td", _progress(record), class_="num"),
            [tag("td", cells[name].get(title, MISSING), class_="num") for title in titles],
        )
        for name, record in records.items()
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", table, class_="scroll")


def _figures(record: Record) -> dict[str, Child]:
    """The headline figure of each protocol with its interval, by the title of the protocol."""
    shown: dict[str, Child] = {}
    for evaluation in by_interest(record.evaluations):
        rows = comparison_rows(evaluation.get("results"))
        if rows:
            shown[title_of(evaluation)] = figure_cell(
                first(headline_row(rows, headline_of(evaluation)))
            )
    if not shown and record.knn and number(record.knn[-1].get("accuracy")) is not None:
        shown["kNN while training"] = figure_cell({"value": record.knn[-1]["accuracy"]})
    return shown


def _verdict(record: Record) -> str:
    label = str(record.verdict.get("label", ""))
    return label if label in DIAGNOSES else label or "not ended"


def _progress(record: Record) -> str:
    rows = [*record.steps[-1:], *record.health[-1:]]
    steps = [step for row in rows if (step := number(row.get("step"))) is not None]
    last = count(max(steps, default=0))
    return f"{last} of {count(record.total_steps)}" if record.total_steps else last


def _differences(names: Sequence[str], differences: Mapping[str, Mapping[str, Any]]) -> Child:
    if not differences:
        return tag("p", "Nothing in recipe and data.", class_="lead")
    head = [tag("th", name, scope="col") for name in ("field", *names)]
    body = [
        tag(
            "tr", tag("th", key.removeprefix("recipe."), scope="row"),
            [tag("td", _value(values, name)) for name in names],
        )
        for key, values in differences.items()
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", table, class_="scroll")


def _value(values: Mapping[str, Any], name: str) -> str:
    item = values.get(name)
    return MISSING if item is None else value(list(item) if isinstance(item, tuple) else item)


def _curves(records: Mapping[str, Record]) -> Child:
    charts = [chart for chart in run_charts(records) if not chart.is_empty]
    if not charts:
        return tag("p", "No step has been reported yet.", class_="lead")
    main = [chart_figure(chart) for chart in charts if chart.title in MAIN_CHARTS]
    others = [chart_figure(chart) for chart in charts if chart.title not in MAIN_CHARTS]
    summary = tag("summary", "Health figures, for specialists")
    folded = tag("details", summary, tag("div", others, class_="charts")) if others else None
    return [tag("div", main, class_="charts"), folded]


def run_charts(records: Mapping[str, Record]) -> list[Chart]:
    """Loss, accuracies and health, each with one curve for each run that has it.

    A run has one color and one kind of line in all. Of several lines of a run the first one is
    drawn: that of test images. A dashed line of a level stays where it is the same in all of
    these runs.
    """
    places = {name: place for place, name in enumerate(records)}
    by_title: dict[str, dict[str, Chart]] = {title: {} for title in MAIN_CHARTS}
    for name, record in records.items():
        charts = [
            figures.loss_chart(record), figures.knn_chart(record),
            replace(figures.accuracy_chart(record), note="on test images"),
            *figures.health_charts(record),
        ]  # fmt: skip
        for chart in charts:
            if not chart.is_empty:
                by_title.setdefault(chart.title, {})[name] = chart
    merged = []
    for own in filter(None, by_title.values()):
        first_chart = next(iter(own.values()))
        levels = [
            level
            for level in first_chart.levels
            if all(level in each.levels for each in own.values())
        ]
        lines = [
            replace(line, name=name, place=places[name])
            for name, chart in own.items()
            for line in chart.lines[:1]
        ]
        note = first_chart.note if levels or not first_chart.levels else ""
        if note and first_chart.title == "Loss":
            drawn = {name: records[name] for name in own}
            note = figures.loss_sentence(next(iter(drawn.values())), drawn)
        merged.append(replace(first_chart, lines=lines, levels=tuple(levels), note=note))
    return merged
