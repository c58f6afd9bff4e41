"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coview.core.progress import output_stream, say
from coview.core.text import printable

if TYPE_CHECKING:
    from coview.reports.results import Row

MAX_ROWS = 16
"""Rows of a protocol in the terminal; its file has all."""
TEXT_WIDTH, FIGURE_WIDTH = 60, 20
"""Letters of a row's name and setting, and of a figure with its interval, in one line."""


def evaluation_table(contents: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of each protocol, as its file has them: a column for each subject.

    In brackets the 95 % interval. A long protocol is cut to its main metric and layer. Sentences on
    the headline figure, on the paired tests and on the subjects follow.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from coview.core.metrics import metric_of
    from coview.reports.records import part
    from coview.reports.results import (
        comparison_rows,
        first,
        headline_of,
        layer_of,
        metric_name,
        paired_sentences,
        result_sentence,
        setting_text,
    )

    rows_of = {str(each.get("protocol")): comparison_rows(each.get("results")) for each in contents}
    subjects = list(dict.fromkeys(n for rows in rows_of.values() for row in rows for n in row))
    table = Table(
        title=_title(contents), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    console = Console(file=output_stream())
    between = " " if console.width >= TEXT_WIDTH + FIGURE_WIDTH * len(subjects) else "\n"
    table.add_column("protocol", no_wrap=True)
    table.add_column("setting")
    for name in subjects:
        table.add_column(name, justify="right")
    notes, sentences = [], []
    for each in contents:
        name = str(each.get("protocol"))
        rows = rows_of[name]
        shown = main_rows(rows, headline_of(each))
        for row in shown:
            result = first(row)
            metric = metric_name(result)
            what = "" if metric == "accuracy" else f", {metric_of(metric).label}"
            cells = [_cell(row.get(subject), between) for subject in subjects]
            setting = setting_text(part(result, "setting"))
            table.add_row(f"{name} on {layer_of(result)}{what}", setting, *cells)
        table.add_section()
        if len(shown) < len(rows):
            notes.append(f"{name}: {len(shown)} of {len(rows)} rows; its file has all.")
        sentences += [result_sentence(each), *paired_sentences(each)] if rows else []
    console.print(table)
    for sentence in (*notes, *sentences, *_notes(contents)):
        say(sentence)


def comparison_table(compared: Mapping[str, Any], sentences: Sequence[str]) -> None:
    """Print one row for each run: verdict, steps and figures; below what differs, and sentences."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from coview.reports.formatting import count, value

    console = Console(file=output_stream())
    titles = list(dict.fromkeys(figure["title"] for figure in compared["figures"]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("run", "verdict"):
        table.add_column(name, overflow="fold")
    for name in ("steps", *titles):
        table.add_column(name, justify="right")
    for row in compared["runs"]:
        own = {f["title"]: f for f in compared["figures"] if f["run"] == row["name"]}
        total = row.get("total_steps")
        steps = count(row.get("step", 0)) + (f" of {count(total)}" if total else "")
        cells = [_cell(own.get(title)) for title in titles]
        table.add_row(row["name"], str(row.get("verdict", "")), steps, *cells)
    console.print(table)
    if compared["differences"]:
        differ = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for name in ("differs", *(row["name"] for row in compared["runs"])):
            differ.add_column(name, overflow="fold")
        for key, values in compared["differences"].items():
            texts = ["-" if item is None else value(item) for item in values.values()]
            differ.add_row(key.removeprefix("recipe."), *texts)
        console.print(differ)
    for sentence in sentences:
        say(sentence)


def search_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the images that a search has found: a table for each query."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=output_stream())
    has_class = any(row["class"] is not None for row in rows)
    for query in dict.fromkeys(row["query"] for row in rows):
        table = Table(
            title=printable(f"Nearest to {query}"), title_justify="left", box=box.SIMPLE_HEAD,
            pad_edge=False, collapse_padding=True,
        )  # fmt: skip
        table.add_column("", justify="right")
        table.add_column("cosine", justify="right")
        table.add_column("image", overflow="fold")
        if has_class:
            table.add_column("class", overflow="fold")
        for row in rows:
            if row["query"] != query:
                continue
            name = printable(row["path"] or row["name"])
            mark = f" ({row['mark']})" if row["mark"] else ""
            cells = [str(row["rank"] or ""), f"{row['score']:.4f}", name + mark]
            table.add_row(*cells, *([printable(row["class"] or "")] if has_class else []))
        console.print(table)


def main_rows(rows: Sequence[Row], headline: Mapping[str, Any]) -> list[Row]:
    """At most 16 rows: those of the main metric, or of the main layer too, the headline first."""
    from coview.reports.results import first, headline_row, layer_of, metric_name

    chosen = list(rows)
    for value_of, key in ((metric_name, "metric"), (layer_of, "layer")):
        if len(chosen) > MAX_ROWS:
            kept = [row for row in chosen if value_of(first(row)) == headline.get(key)]
            chosen = kept or chosen
    if len(chosen) > MAX_ROWS:
        standard = headline_row(rows, headline)
        chosen = [standard, *(row for row in chosen if row is not standard)][:MAX_ROWS]
    return chosen


def _title(contents: Sequence[Mapping[str, Any]]) -> str:
    images = sorted({
        int(row["test_images"])
        for each in contents
        for row in each.get("results", ())
        if isinstance(row.get("test_images"), int)
    })  # fmt: skip
    counts = " and ".join(f"{number:,}" for number in images[:3])
    return (
        f"Figures on {counts}{' ...' if len(images) > 3 else ''} test images, with 95 % intervals"
    )


def _cell(result: Mapping[str, Any] | None, between: str = " ") -> str:
    from coview.reports.formatting import MISSING
    from coview.reports.results import figure_text, interval_text

    if result is None:
        return "-"
    interval = interval_text(result)
    return figure_text(result) + ("" if interval == MISSING else f"{between}({interval})")


def _notes(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know of a subject: that its weights are random, or its BatchNorm's."""
    from coview.reports.records import part

    subjects = {
        name: note
        for each in contents
        for name, subject in part(part(each, "card"), "subjects").items()
        if isinstance(subject, dict) and (note := subject.get("note"))
    }
    return [f"{name}: {note}." for name, note in subjects.items()]
