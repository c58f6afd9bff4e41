"""A run and the results of an evaluation in a notebook: small tables of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.core.run_folder import RunFolder
from coview.reports.formatting import count, percent
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, read_record
from coview.reports.results import (
    comparison_rows,
    figure_and_interval,
    first,
    headline_of,
    headline_row,
    layer_of,
    metric_name,
    result_sentence,
    row_setting,
)
from coview.reports.scores import headline_scores


def run_card(folder: Path) -> Markup:
    """A run in a few lines: kind, verdict, steps, the main figures, and where its report lies.

    Reads files alone, also of a run that is going. Raises RunError where there is none.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text("{}")
    >>> "not ended" in run_card(folder)
    True
    """
    record = read_record(folder)
    verdict = record.verdict or {}
    report = RunFolder(record.folder).report_path
    rows: list[tuple[str, Child]] = [
        ("verdict", tag("b", str(verdict.get("label") or "not ended"))),
        ("", str(verdict.get("sentence") or "")),
        ("steps", _steps(record)),
    ]
    for score in headline_scores(record):
        beside = ", ".join(f"{name} {percent(share)}" for name, share in score.baselines.items())
        rows.append((score.title, f"{percent(score.value)}{f' ({beside})' if beside else ''}"))
    if report.is_file():
        rows.append(("report", tag("code", str(report))))
    body = [
        tag("tr", tag("th", name, scope="row", style="text-align:left"), tag("td", value))
        for name, value in rows
        if value
    ]
    caption = tag("caption", tag("code", str(folder)), f" ({record.kind})")
    return tag("table", caption, tag("tbody", body))


def results_table(contents: Sequence[Mapping[str, Any]]) -> Markup:
    """One row for each protocol: the figure that represents it, of each subject, with its interval.

    ``contents`` are those of the JSON files. Below stands one sentence for each protocol.

    >>> results_table([])
    'No results.'
    """
    headline = {
        str(each.get("protocol")): headline_row(rows, headline_of(each))
        for each in contents
        if (rows := comparison_rows(each.get("results")))
    }
    if not headline:
        return Markup("No results.")
    subjects = list(dict.fromkeys(name for row in headline.values() for name in row))
    head = ["protocol", "layer", "metric", "setting", *subjects]
    body = []
    for protocol, row in headline.items():
        result = first(row)
        setting, own = row_setting(row)
        words = [protocol, layer_of(result), metric_name(result), setting]
        figures = [
            ", ".join([figure_and_interval(row.get(name)), *own.get(name, ())]) for name in subjects
        ]
        body.append(tag("tr", [tag("td", word) for word in (*words, *figures)]))
    table = tag(
        "table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in head])),
        tag("tbody", body),
    )  # fmt: skip
    sentences = [tag("p", result_sentence(each)) for each in contents if each.get("results")]
    return tag("div", table, sentences)


def _steps(record: Record) -> str:
    done = int(record.steps[-1].get("step", 0)) if record.steps else 0
    total = f" of {count(record.total_steps)}" if record.total_steps else ""
    return f"{count(done)}{total}"
