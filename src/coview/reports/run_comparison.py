"""The page of several runs: one table, what differs, and their curves over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
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

KNN = "kNN while training"
MAIN_CHARTS = ("Loss", "Accuracy while training", KNN, figures.FOUND.label)
"""Those that readers look for, in this order; the others are folded away."""
MOST_COLUMNS = 4
"""Protocols that stand beside each other; more stand below each other, with a column for a run."""
MARK = "*"
"""Behind a figure on which there is a note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureNote:
    """Why the figures with these ``titles`` of these ``runs`` say less than they seem to."""

    runs: tuple[str, ...]
    titles: tuple[str, ...]
    text: str

    def sentence(self) -> str:
        between = " " if self.text.startswith("of ") else ": "
        return f"{MARK} {', '.join(self.titles)}{between}{self.text}"


def write_run_comparison(
    path: Path, runs: Mapping[str, Path], *, differences: Mapping[str, Mapping[str, Any]],
    sentences: Sequence[str], notes: Sequence[FigureNote] = (),
) -> Path:  # fmt: skip
    """Write the page of ``runs``, folders by the names that they have on it; returns ``path``.

    ``differences``: the fields that are not equal in all runs, their values by name.
    ``sentences``: what tests say. ``notes``: on figures, which are marked.
    Raises RunError where a folder is no run, StorageError.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text("{}")
    >>> write_run_comparison(folder / "both.html", {"a": folder, "b": folder}, differences={},
    ...     sentences=[]).name
    'both.html'
    """
    records = {name: read_record(folder) for name, folder in runs.items()}
    differ = _differences(list(runs), differences)
    said = [tag("p", note.sentence(), class_="note") for note in notes]
    said += [tag("p", text, class_="note") for text in sentences]
    faults = [text for record in records.values() for text in record.damaged]
    sections: list[Section] = [
        ("runs", "Runs", [_runs_table(records, notes), said]),
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


def _runs_table(records: Mapping[str, Record], notes: Sequence[FigureNote]) -> Markup:
    """Verdict, progress and the figure that represents each protocol: a row for each run, or a
    column, where there are more protocols than fit beside each other."""
    marked = {(run, title) for note in notes for run in note.runs for title in note.titles}
    cells = {
        name: _figures(record, {title for run, title in marked if run == name})
        for name, record in records.items()
    }
    titles = list(dict.fromkeys(title for own in cells.values() for title in own))
    columns: list[tuple[str, str | None, list[Markup]]] = [
        ("verdict", None, [tag("td", _verdict(record)) for record in records.values()]),
        ("steps", "num", [tag("td", _progress(r), class_="num") for r in records.values()]),
        *(
            (title, "num", [tag("td", cells[name].get(title, MISSING), class_="num")
                            for name in records])
            for title in titles
        ),
    ]  # fmt: skip
    names = [tag("bdi", name) for name in records]
    turned = len(titles) > max(MOST_COLUMNS, len(records))
    if turned:
        head = [tag("th", "figure", scope="col")]
        head += [tag("th", name, scope="col", class_="num") for name in names]
        body = [tag("tr", tag("th", title, scope="row"), list(own)) for title, _, own in columns]
    else:
        head = [tag("th", "run", scope="col")]
        head += [tag("th", title, scope="col", class_=side) for title, side, _ in columns]
        body = [
            tag("tr", tag("th", name, scope="row"), [own[place] for _, _, own in columns])
            for place, name in enumerate(names)
        ]
    kind = "turned" if turned else None
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body), class_=kind)
    return tag("div", table, class_="scroll")


def _figures(record: Record, marked: Set[str]) -> dict[str, Child]:
    """The headline figure of each protocol with its interval, by the title of the protocol; with a
    mark if its title is in ``marked``."""
    shown: dict[str, Child] = {}
    for evaluation in by_interest(record.evaluations):
        rows = comparison_rows(evaluation.get("results"))
        if rows:
            title = title_of(evaluation)
            shown[title] = figure_cell(
                first(headline_row(rows, headline_of(evaluation))),
                mark=MARK if title in marked else "",
            )
    if not shown and record.knn and number(record.knn[-1].get("accuracy")) is not None:
        shown[KNN] = figure_cell(
            {"value": record.knn[-1]["accuracy"]}, mark=MARK if KNN in marked else ""
        )
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
        if first_chart.title == "Loss":
            drawn = {name: records[name] for name in own}
            note = figures.loss_sentence(next(iter(drawn.values())), drawn)
        merged.append(replace(first_chart, lines=lines, levels=tuple(levels), note=note))
    return merged
