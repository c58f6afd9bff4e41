"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from coview.core.progress import say


def evaluation_table(results: Iterable[Mapping[str, Any]]) -> None:
    """Print accuracies of trained and untrained encoder and of pixels, one row a setting, and what
    they come to in a sentence for each protocol."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from coview.reports.scores import in_words, setting_text

    results = list(results)
    images = {result["data"]["test"]["images"] for result in results}
    title = f"Accuracy on {' and '.join(f'{number:,}' for number in sorted(images))} test images"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("protocol", "setting"):
        table.add_column(name)
    for name in ("trained", "untrained", "raw pixels"):
        table.add_column(name, justify="right")
    for result in results:
        for row in result["results"]:
            table.add_row(f"{result['protocol']} on {row['tap']}", setting_text(row), *_row(row))
        table.add_section()
    Console().print(table)
    for sentence in in_words([dict(result) for result in results]):
        say(sentence)


def _row(row: Mapping[str, Any]) -> list[str]:
    values = (row.get(name) for name in ("accuracy", "untrained", "pixels"))
    return ["-" if value is None else f"{100 * value:.1f} %" for value in values]
