"""Lists and tables of a run: recipe, environment, files that could not be used, events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from coview.reports.formatting import count, value
from coview.reports.html import Child, Markup, tag, with_code

MAX_ROWS = 200


def definition_list(entries: list[tuple[str, Child]]) -> Markup:
    pairs: list[Child] = [(tag("dt", name), tag("dd", text)) for name, text in entries]
    return tag("dl", pairs, class_="facts")


def object_list(fields: dict[str, Any]) -> Markup:
    """A flat JSON object as names and values."""
    return definition_list([(key.replace("_", " "), value(item)) for key, item in fields.items()])


def recipe_table(recipe: dict[str, Any]) -> Markup:
    """The nested values of a recipe as one table, indented by depth."""
    rows = [
        tag(
            "tr", tag("th", name, scope="row", style=f"padding-left:{1.25 * depth:g}rem"),
            tag("td", text), class_="group" if nested else None,
        )
        for depth, name, text, nested in recipe_rows(recipe)
    ]  # fmt: skip
    return tag("div", tag("table", tag("tbody", rows), class_="recipe"), class_="scroll")


def recipe_rows(node: dict[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str, bool]]:
    """(depth, name, text, has parts) of every value; equal list items are shown once.

    >>> list(recipe_rows({"optimizer": {"type": "LARS", "momentum": 0.9}}))
    [(0, 'optimizer', 'LARS', True), (1, 'momentum', '0.9', False)]
    """
    for key, item in node.items():
        name = key.replace("_", " ")
        if key == "type":
            continue
        if isinstance(item, dict):
            yield depth, name, str(item.get("type", "")), True
            yield from recipe_rows(item, depth + 1)
        elif isinstance(item, list) and any(isinstance(entry, dict) for entry in item):
            yield from _list_rows(name, item, depth)
        else:
            yield depth, name, value(item), False


def cut_table(
    heads: tuple[str, ...], rows: list[tuple[Child, ...]], *, numeric: tuple[int, ...] = ()
) -> Markup:
    """A table of at most 200 rows and the number of rows that are not shown.

    The columns ``numeric`` are aligned at the right.
    """
    classes = ["num" if i in numeric else None for i in range(len(heads))]
    head = [tag("th", name, scope="col", class_=c) for name, c in zip(heads, classes, strict=True)]
    body = [
        tag("tr", [tag("td", cell, class_=c) for cell, c in zip(row, classes, strict=True)])
        for row in rows[:MAX_ROWS]
    ]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    table = tag("div", table, class_="scroll")
    if len(rows) <= MAX_ROWS:
        return table
    rest = f"{count(len(rows) - MAX_ROWS)} more of {count(len(rows))} are not shown."
    return tag("div", table, tag("p", rest, class_="note"))


def quarantine_table(lines: list[dict[str, Any]]) -> Markup:
    """The files that could not be used, with the reason."""
    rows: list[tuple[Child, ...]] = [
        (
            tag("bdi", str(row.get("file", "?")), class_="file"),
            with_code(str(row.get("reason", ""))),
        )
        for row in lines
    ]
    return cut_table(("file", "reason"), rows)


def event_table(events: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> Markup:
    """Events and skipped steps in order of step; skipped steps with the images in them."""
    entries = [(line, str(line.get("text", "")), "") for line in events]
    entries += [(line, f"Skipped: {line.get('reason', '')}", _ids(line)) for line in skipped]
    entries.sort(key=lambda entry: _step(entry[0]))
    rows: list[tuple[Child, ...]] = [
        (count(_step(line)), with_code(text), tag("span", ids, class_="muted"))
        for line, text, ids in entries
    ]
    return cut_table(("step", "event", "images"), rows)


def _list_rows(name: str, items: list[Any], depth: int) -> Iterator[tuple[int, str, str, bool]]:
    start = 0
    while start < len(items):
        stop = start + 1
        while stop < len(items) and items[stop] == items[start]:
            stop += 1
        place = f"{start + 1}" if stop == start + 1 else f"{start + 1} to {stop}"
        title = f"{name} {place}"
        if isinstance(items[start], dict):
            yield depth, title, str(items[start].get("type", "")), True
            yield from recipe_rows(items[start], depth + 1)
        else:
            yield depth, title, value(items[start]), False
        start = stop


def _ids(line: dict[str, Any]) -> str:
    ids = line.get("ids")
    ids = ids if isinstance(ids, list) else []
    text = ", ".join(str(entry) for entry in ids[:8])
    return text + (f" and {count(len(ids) - 8)} more" if len(ids) > 8 else "")


def _step(line: dict[str, Any]) -> float:
    step = line.get("step")
    return step if isinstance(step, int | float) and not isinstance(step, bool) else 0
