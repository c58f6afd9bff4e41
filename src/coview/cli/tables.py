"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coview.core.progress import REDIRECTED, UNBROKEN, prints_details, say, table_console
from coview.core.text import printable

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

    from coview.reports.results import Row

MAX_ROWS = 16
"""Rows of a protocol in the terminal; its file has all."""
TEXT_WIDTH, FIGURE_WIDTH = 60, 20
"""Letters of a row's name and setting, and of a figure with its interval, in one line."""
NARROWEST_TEXT, NARROWEST_FIGURE = 30, 15
"""The same where both are broken; a terminal that is narrower has a row for each subject."""
MAX_COLUMN, MAX_VALUE = 24, 15
"""Letters in a line of a figure, and of a field's value."""


def evaluation_table(contents: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of each protocol, as its file has them: a column for each subject.

    First sentences on the headline figure, on the paired tests and on the subjects; quiet output
    has those on figures alone. In brackets the 95 % interval. A long protocol is cut to its main
    metric and layer. Of more subjects than the terminal is wide there is a row each, with the
    figure that represents each protocol.
    """
    from coview.reports.results import by_interest, comparison_rows, headline_sentences

    for sentence in headline_sentences(contents):
        say(sentence)
    if not prints_details():
        return
    contents = by_interest(dict(each) for each in contents)
    rows_of = {str(each.get("protocol")): comparison_rows(each.get("results")) for each in contents}
    subjects = list(dict.fromkeys(n for rows in rows_of.values() for row in rows for n in row))
    console = table_console(REDIRECTED)
    narrow = NARROWEST_TEXT + NARROWEST_FIGURE * len(subjects) > console.width
    for sentence in _notes(contents):
        say(sentence)
    print_rows = _print_subjects if narrow else _print_settings
    for sentence in print_rows(console, contents, rows_of, subjects):
        say(sentence)


def _print_settings(
    console: Console, contents: Sequence[Mapping[str, Any]], rows_of: Mapping[str, list[Row]],
    subjects: Sequence[str],
) -> list[str]:  # fmt: skip
    """A row for each setting, a column for each subject; returns which rows are left out."""
    from coview.reports.results import figure_and_interval, first, headline_of, row_setting

    table = _table(title=_title(contents), title_justify="left")
    wide = console.width >= TEXT_WIDTH + FIGURE_WIDTH * len(subjects)
    between, line = " " if wide else "\n", ", " if console.width >= UNBROKEN else "\n"
    table.add_column("protocol", no_wrap=wide)
    table.add_column("setting")
    for name in subjects:
        table.add_column(printable(name), justify="right", overflow="fold")
    notes = []
    for each in contents:
        name = str(each.get("protocol"))
        rows = rows_of[name]
        shown = main_rows(rows, headline_of(each))
        for row in shown:
            setting, own = row_setting(row)
            cells = [
                line.join([figure_and_interval(row.get(subject), between), *own.get(subject, ())])
                for subject in subjects
            ]
            table.add_row(_figure_name(name, first(row)), setting, *cells)
        table.add_section()
        if len(shown) < len(rows):
            notes.append(f"{name}: {len(shown)} of {len(rows)} rows; its file has all.")
    console.print(table)
    return notes


def _print_subjects(
    console: Console, contents: Sequence[Mapping[str, Any]], rows_of: Mapping[str, list[Row]],
    subjects: Sequence[str],
) -> list[str]:  # fmt: skip
    """A row for each subject, a column for the figure that represents each protocol."""
    from coview.reports.results import figure_and_interval, first, headline_of, headline_row

    columns: list[tuple[str, list[str]]] = []
    for each in contents:
        rows = rows_of[str(each.get("protocol"))]
        if rows:
            row = headline_row(rows, headline_of(each))
            head = _figure_name(str(each.get("protocol")), first(row))
            columns.append((head, [figure_and_interval(row.get(name), "\n") for name in subjects]))
    _print_parts(console, "subject", subjects, columns, title=_title(contents))
    return ["Each figure is the one that represents its protocol; the files have all."]


def _figure_name(protocol: str, result: Mapping[str, Any]) -> str:
    """As "knn on h", with the metric where it is not accuracy."""
    from coview.core.metrics import metric_of
    from coview.reports.results import layer_of, metric_name

    metric = metric_name(result)
    what = "" if metric == "accuracy" else f", {metric_of(metric).label}"
    return f"{protocol} on {layer_of(result)}{what}"


def comparison_table(compared: Mapping[str, Any], sentences: Sequence[str]) -> None:
    """Print one row for each run: verdict, steps and figures; below notes on marked figures, what
    differs, and sentences."""
    from coview.core.figures import FIGURES
    from coview.reports.formatting import count, percent, value
    from coview.reports.records import number
    from coview.reports.results import figure_and_interval
    from coview.reports.run_comparison import MARK, FigureNote
    from coview.runs.find import FOUND

    console = table_console(REDIRECTED)
    runs = compared["runs"]
    names = [str(row["name"]) for row in runs]
    columns: list[tuple[str, list[str]]] = [
        ("verdict", [str(row.get("verdict", "")) for row in runs])
    ]
    notes = [FigureNote(**note) for note in compared.get("notes", ())]
    marked = {(run, title) for note in notes for run in note.runs for title in note.titles}

    def mark(title: str, name: str) -> str:
        return MARK if (name, title) in marked else ""

    totals = [row.get("total_steps") for row in runs]
    columns.append(("steps", [
        count(row.get("step", 0)) + (f" of {count(total)}" if total else "")
        for row, total in zip(runs, totals, strict=True)
    ]))  # fmt: skip
    if any(FOUND in row for row in runs):
        shares, label = [number(row.get(FOUND)) for row in runs], FIGURES[FOUND].label
        columns.append((label, [
            "-" if share is None else percent(share) + mark(label, name)
            for name, share in zip(names, shares, strict=True)
        ]))  # fmt: skip
    for title in dict.fromkeys(figure["title"] for figure in compared["figures"]):
        own = {f["run"]: f for f in compared["figures"] if f["title"] == title}
        columns.append((title, [
            figure_and_interval(own.get(name), "\n", mark=mark(title, name)) for name in names
        ]))  # fmt: skip
    _print_parts(console, "run", names, columns)
    shown = {title for title, _ in columns}
    for note in notes:
        if shown & set(note.titles):
            say(note.sentence())
    if compared["differences"]:
        fields = [key.removeprefix("recipe.") for key in compared["differences"]]
        differing = [
            (name, ["-" if (item := values.get(name)) is None else value(item)
                    for values in compared["differences"].values()])
            for name in names
        ]  # fmt: skip
        whole = table_console()
        _print_parts(whole, "differs", fields, differing, justify="left", most=MAX_VALUE)
    for sentence in sentences:
        say(sentence)


def search_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the images that a search has found: a table for each query."""
    console = table_console()
    has_class = any(row["class"] is not None for row in rows)
    by_query: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_query.setdefault(row["query"], []).append(row)
    for query, found in by_query.items():
        say(f"Nearest to {query}")
        table = _table()
        table.add_column("", justify="right")
        table.add_column("cosine", justify="right")
        table.add_column("image", overflow="fold")
        if has_class:
            table.add_column("class", overflow="fold")
        for row in found:
            name = printable(_as_typed(row["path"]) if row["path"] else row["name"])
            mark = f" ({row['mark']})" if row["mark"] else ""
            cells = [str(row["rank"] or ""), f"{row['score']:.4f}", name + mark]
            table.add_row(*cells, *([printable(row["class"] or "")] if has_class else []))
        console.print(table)


def _as_typed(path: str) -> str:
    """A path in the working folder as one begins there, as it can be typed."""
    place, here = Path(path), Path.cwd()
    return str(place.relative_to(here)) if place.is_relative_to(here) else path


def _print_parts(
    console: Console, corner: str, names: Sequence[str],
    columns: Sequence[tuple[str, Sequence[str]]], *, title: str | None = None,
    justify: JustifyMethod = "right", most: int = MAX_COLUMN,
) -> None:  # fmt: skip
    """A table with the ``names`` at the left, in as many parts below each other as the terminal's
    width asks for. A cell of more than ``most`` letters is broken."""
    names = list(map(printable, names))
    columns = [(printable(head), list(map(printable, cells))) for head, cells in columns]
    width = console.width
    most = width if width >= UNBROKEN else most
    first = min(max(map(len, (corner, *names))), width // 3)
    place, part = 0, 0
    while part == 0 or place < len(columns):
        left, chosen = width - first - 2, list[tuple[str, Sequence[str]]]()
        while place < len(columns):
            head, cells = columns[place]
            widest = max(len(line) for text in (*cells, *head.split()) for line in text.split("\n"))
            needed = min(widest, most) + 2
            if chosen and needed > left:
                break
            chosen.append((head, cells))
            left -= needed
            place += 1
        table = _table(title=title if part == 0 else None, title_justify="left")
        table.add_column(corner, overflow="fold", max_width=first)
        for head, _ in chosen:
            table.add_column(head, justify=justify, overflow="fold", max_width=most)
        for row, name in enumerate(names):
            table.add_row(name, *(cells[row] for _, cells in chosen))
        console.print(table)
        part += 1


def _table(**settings: Any) -> Table:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, **settings)


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


def studies_table(studies: Sequence[Mapping[str, Any]]) -> None:
    """Print each study with its state, its cost on this machine, its question and its claims."""
    from coview.core.text import duration, plural
    from coview.studies.claims import WORDS

    for each in studies:
        if each["runs"] is None:
            state = each["error"]
        elif not each["runs"]:
            measured = any(claim["tested"] for claim in each["claims"])
            state = f"without training, {'ended' if measured else 'some seconds'}"
        elif each["ended"] == each["runs"]:
            state = f"{plural(each['runs'], 'run')}, ended"
        else:
            time, lacking = f"about {duration(each['seconds'])}", each["lacking"]
            is_known = each["seconds"] or not lacking
            time = f"{time}{lacking}" if is_known else lacking.removeprefix(", and ")
            state = f"{each['ended']} of {each['runs']} runs, {time}"
        needs = f"; needs {' and '.join(each['needs'])}" if each["needs"] else ""
        say(f"{each['name']}: {state}{needs}")
        say(f"    {each['question']}")
        for claim in each["claims"]:
            word = WORDS[claim["holds"]] if claim["tested"] else "not tested yet"
            say(f"    - {claim['text']}: {word}")


def arms_table(tables: Sequence[Mapping[str, Any]]) -> None:
    """Print the tables of a study.json."""
    for content in tables:
        table = _table(title=content["title"], title_justify="left")
        for name in content["columns"]:
            table.add_column(name)
        for row in content["rows"]:
            table.add_row(*row)
        table_console().print(table)
