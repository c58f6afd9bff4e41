"""A section for any protocol: table, curve, paired tests, classes and card, from its file alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coview.core.metrics import metric_of
from coview.reports.confusion import (
    class_accuracies,
    confusion_list,
    confusion_matrix,
    confusion_of,
)
from coview.reports.curves import Chart, Line, chart_figure
from coview.reports.figures import FORMATS
from coview.reports.formatting import MISSING, count, value
from coview.reports.html import Child, Markup, tag, with_code
from coview.reports.records import Record, number, part
from coview.reports.results import (
    EACH_OWN,
    Row,
    by_interest,
    comparison_rows,
    figure_text,
    first,
    gain_text,
    headline_of,
    headline_row,
    images_of,
    interval_text,
    layer_of,
    metric_name,
    paired_sentences,
    row_setting,
    title_of,
)
from coview.reports.tables import definition_list

CONFUSED_BY = ("linear", "logistic", "knn")
CHOICES = "What each has chosen for itself, by validation images, is in Protocol."
MAX_ROWS = 4
"""Rows of a table that is shown whole; of a longer one the row that represents the protocol."""


def evaluation_tables(record: Record) -> list[Markup]:
    """The section of each evaluation file of a run."""
    return [evaluation_section(evaluation) for evaluation in by_interest(record.evaluations)]


def evaluation_section(evaluation: Mapping[str, Any], *, titled: bool = True) -> Markup:
    """What one file of results says: its question, figures, caveats and card."""
    rows = comparison_rows(evaluation.get("results"))
    question, judged_on = evaluation.get("question"), images_of(evaluation)
    chart = axis_chart(evaluation)
    return tag(
        "div", tag("h3", title_of(evaluation)) if titled else None,
        tag("p", str(question), class_="note question") if question else None,
        tag("p", f"Judged on {judged_on}.", class_="note") if judged_on else None,
        None if chart is None else tag("div", chart_figure(chart), class_="charts"),
        results_table(rows, headline_of(evaluation)) if rows
        else tag("p", "No results in this file."),
        tag("p", CHOICES, class_="note") if own_settings(rows) else None,
        [tag("p", sentence, class_="note") for sentence in paired_sentences(evaluation)],
        caveat_notes(evaluation),
        class_table(rows, headline_of(evaluation)), card(evaluation, rows), class_="evaluation",
    )  # fmt: skip


def confusion_block(evaluations: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Which classes the first subject confuses: by the best known of these protocols that says."""
    by_name = {str(evaluation.get("protocol")): evaluation for evaluation in evaluations}
    for evaluation in (by_name[name] for name in CONFUSED_BY if name in by_name):
        rows = comparison_rows(evaluation.get("results"))
        result = first(headline_row(rows, headline_of(evaluation))) if rows else {}
        counts = part(result, "confusion")
        confusion = confusion_of(counts.get("classes"), counts.get("counts"))
        if confusion[1]:
            title = f"Which classes it confuses ({title_of(evaluation)})"
            return tag(
                "div", tag("h3", title), confusion_list(*confusion), confusion_matrix(*confusion),
                tag("h3", "Accuracy of each class, worst first"), class_accuracies(*confusion),
                class_="confused",
            )  # fmt: skip
    return None


def caveats(evaluation: Mapping[str, Any]) -> list[Any]:
    """Sentences on why the figures say less than they seem to."""
    sentences = part(evaluation, "data").get("caveats")
    return sentences if isinstance(sentences, list) else []


def caveat_notes(evaluation: Mapping[str, Any]) -> list[Markup]:
    return [tag("p", with_code(str(each)), class_="note caveat") for each in caveats(evaluation)]


def tested_on(evaluation: Mapping[str, Any]) -> str:
    """The test images of a training in words, by what is known of the runs before it."""
    known_new = part(evaluation, "data").get("caveats") == []
    return f"test images{' that no training and no choice has used' if known_new else ''}"


def images_note(evaluation: Mapping[str, Any], images: Any) -> Markup | None:
    """How many test images, below the main figure of a training."""
    number_ = number(images)
    if not number_:
        return None
    doubt = "; not all need be new to the network, see below" if caveats(evaluation) else ""
    return tag("p", f"{count(number_)} test images{doubt}", class_="note")


def results_table(rows: Sequence[Row], headline: Mapping[str, Any]) -> Child:
    """Every figure with its interval, a column for each subject; a long table is folded.

    "gain": how much better the trained encoder is than the untrained one.
    """
    subjects = list(dict.fromkeys(name for row in rows for name in row))
    metrics = len({metric_name(first(row)) for row in rows}) > 1
    gain = subjects[:1] == ["trained"] and "untrained" in subjects
    head = [tag("th", name, scope="col") for name in ("layer", "setting")]
    head += [tag("th", "metric", scope="col")] if metrics else []
    figures = (*subjects, "gain") if gain else subjects
    head += [tag("th", name, scope="col", class_="num") for name in figures]
    standard = headline_row(rows, headline) if len(rows) > 1 else None

    def line(row: Row) -> Markup:
        result = first(row)
        setting, _ = row_setting(row)
        return tag(
            "tr", tag("th", layer_of(result), scope="row"), tag("td", setting),
            tag("td", metric_of(metric_name(result)).label) if metrics else None,
            [
                tag("td", figure_cell(row.get(name)), class_=f"num {_class(name)}")
                for name in subjects
            ],
            tag("td", _gain(row), class_="num") if gain else None,
            class_="standard" if row is standard else None,
        )  # fmt: skip

    def table(some: Sequence[Row]) -> Markup:
        body = tag("tbody", [line(row) for row in some])
        return tag("div", tag("table", tag("thead", tag("tr", head)), body), class_="scroll")

    if len(rows) <= MAX_ROWS:
        return table(rows)
    every = tag("summary", f"All {count(len(rows))} rows")
    return [table([headline_row(rows, headline)]), tag("details", every, table(rows))]


def axis_chart(evaluation: Mapping[str, Any]) -> Chart | None:
    """The headline metric against the axis of the protocol, a curve for each subject."""
    axis, headline = str(evaluation.get("axis") or ""), headline_of(evaluation)
    rows = comparison_rows(evaluation.get("results"))
    if not axis or not rows:
        return None
    standard = headline_row(rows, headline)
    metric = metric_name(first(standard))
    rows = [
        row
        for row in rows
        if metric_name(first(row)) == metric and layer_of(first(row)) == layer_of(first(standard))
    ]
    rows = _of_one_kind(rows, standard, axis, headline)
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row):
        points: dict[float, float] = {}
        for row in rows:
            place = number(part(row[name], "setting").get(axis)) if name in row else None
            if place is not None:
                points.setdefault(place, float(row[name]["value"]))
        xs = sorted(points)
        lines.append(Line(name=name, points=(xs, [points[x] for x in xs]), dots=True))
    places = [x for line in lines for x in line.points[0]]
    if len(set(places)) < 2:
        return None
    figure = metric_of(metric)
    return Chart(
        title=figure.label, note=figure.explanation, lines=lines, x_label=axis.replace("_", " "),
        format=FORMATS[figure.format], wide=True,
        log_x=min(places) > 0 and max(places) / min(places) >= LOG_RATIO,
    )  # fmt: skip


LOG_RATIO = 20
"""An axis that spans more is drawn by its logarithm."""


def _of_one_kind(
    rows: Sequence[Row], standard: Row, axis: str, headline: Mapping[str, Any]
) -> list[Row]:
    """The rows that differ from the headline's along the axis alone.

    A text that has one value for each place on the axis (a name of that place) goes along; so does
    a number that the headline does not name (a setting that was chosen).
    """
    settings = [part(first(row), "setting") for row in rows]
    wanted = part(first(standard), "setting")
    fixed = []
    for key, item in wanted.items():
        pairs = {(str(setting.get(axis)), str(setting.get(key))) for setting in settings}
        along = len(pairs) == len({str(setting.get(axis)) for setting in settings})
        if key != axis and not along and (isinstance(item, str) or key in headline):
            fixed.append(key)
    return [
        row
        for row, setting in zip(rows, settings, strict=True)
        if all(setting.get(key) == wanted[key] for key in fixed)
    ]


def class_table(rows: Sequence[Row], headline: Mapping[str, Any]) -> Markup | None:
    """The headline figure of each class, folded away, the worst of the first subject first."""
    if not rows:
        return None
    row = headline_row(rows, headline)
    columns = {name: part(result, "per_class") for name, result in row.items()}
    columns = {name: classes for name, classes in columns.items() if classes}
    if not columns:
        return None
    own, figure = next(iter(columns.values())), metric_of(metric_name(first(row)))
    sign = -1 if figure.better == "lower" else 1
    order = sorted(own, key=lambda name: sign * (number(own[name]) or 0.0))
    head = [tag("th", "class", scope="col")]
    head += [tag("th", name, scope="col", class_="num") for name in columns]
    body = [
        tag(
            "tr", tag("th", tag("bdi", name), scope="row"),
            [
                tag("td", _value(classes.get(name), figure.format), class_=f"num {_class(subject)}")
                for subject, classes in columns.items()
            ],
        )
        for name in order
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    title = f"{figure.label} of each class, worst first"
    return tag("details", tag("summary", title), tag("div", table, class_="scroll"))


def own_settings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What each subject has chosen for itself, for each row where one has: (the row, the choices).

    >>> row = {name: {"layer": "h", "setting": {"k": k}} for name, k in (("a", 5), ("b", 20))}
    >>> own_settings([row])
    [('chosen on h', 'a: k 5; b: k 20')]
    """
    entries = []
    for row in rows:
        setting, own = row_setting(row)
        texts = [f"{name}: {', '.join(parts)}" for name, parts in own.items() if parts]
        shared = "" if setting in (EACH_OWN, MISSING) else f", {setting}"
        if texts:
            entries.append((f"chosen on {layer_of(first(row))}{shared}", "; ".join(texts)))
    return entries


def card(evaluation: Mapping[str, Any], rows: Sequence[Row] = ()) -> Markup:
    """How it was measured and on what, and what subjects have chosen in ``rows``, folded away."""
    data = {key: item for key, item in part(evaluation, "data").items() if key != "caveats"}
    entries: list[tuple[str, Child]] = [
        *own_settings(rows), *_entries("data", data), *_entries("", part(evaluation, "card"))
    ]  # fmt: skip
    if evaluation.get("created"):
        entries.append(("measured", value(evaluation["created"])))
    return tag("details", tag("summary", "Protocol"), definition_list(entries))


def _entries(prefix: str, items: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, item in items.items():
        yield f"{prefix} {key}".strip().replace("_", " "), value(item)


def figure_cell(result: Mapping[str, Any] | None, *, mark: str = "") -> Child:
    """A figure and perhaps a ``mark``; in small letters its interval."""
    if result is None:
        return MISSING
    interval = interval_text(result)
    small = None if interval == MISSING else tag("small", interval, class_="interval")
    return [figure_text(result), tag("sup", mark) if mark else None, small]


def _value(item: Any, form: str) -> str:
    figure = number(item)
    return MISSING if figure is None else FORMATS[form](figure)


def _gain(row: Row) -> str:
    if not {"trained", "untrained"} <= row.keys():
        return MISSING
    return gain_text(row["trained"], row["untrained"])


def _class(name: str) -> str | None:
    """The class of a cell: the subject in question of a single run is bold."""
    return name if name in ("trained", "untrained", "pixels") else ""
