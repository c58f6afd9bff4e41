"""How rows of a table show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def rows_html(columns: Mapping[str, Sequence[Any]], caption: str) -> str:
    """A table of HTML: one row for each value of the columns; a vector is shown by its width.

    >>> rows_html({"name": ["a<.jpg"], "h": [[0.0, 1.0]]}, "1 image").count("<tr>")
    2
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"{len(value):,} numbers"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))
