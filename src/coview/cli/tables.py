"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def evaluation_table(results: Iterable[Mapping[str, Any]]) -> None:
    """Print accuracies of trained and untrained encoder and of pixels, one row a setting."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Accuracy on the test part", title_justify="left")
    for name in ("protocol", "features", "setting"):
        table.add_column(name)
    for name in ("trained", "untrained", "raw pixels"):
        table.add_column(name, justify="right")
    for result in results:
        for row in result["results"]:
            table.add_row(result["protocol"], row["tap"], setting_text(row["setting"]), *_row(row))
    Console().print(table)


def setting_text(setting: Mapping[str, Any]) -> str:
    """'k 10, plain' of {'k': 10, 'weighting': 'plain'}."""
    return ", ".join(
        str(value) if isinstance(value, str) else f"{name.replace('_', ' ')} {value:g}"
        for name, value in setting.items()
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    values = (row.get(name) for name in ("accuracy", "untrained", "pixels"))
    return ["-" if value is None else f"{100 * value:.1f} %" for value in values]
