"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from coview.core.progress import output_stream, say

if TYPE_CHECKING:
    from coview.evaluation import Result


def evaluation_table(results: Sequence[Result]) -> None:
    """Print one row for each protocol, layer and setting, one column for each subject.

    "95 % CI" is the confidence interval of the first subject. A sentence for each protocol follows.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from coview.reports.scores import comparison_rows, first, interval_text, result_sentence
    from coview.reports.scores import setting_text as text

    subjects = list(dict.fromkeys(result.subject for result in results))
    images = sorted({result.test_images for result in results})
    title = f"Accuracy on {' and '.join(f'{number:,}' for number in images)} test images"
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    for name in ("protocol", "setting"):
        table.add_column(name)
    for name in (*subjects, "95 % CI"):
        table.add_column(name, justify="right")
    sentences = []
    for protocol in dict.fromkeys(result.protocol for result in results):
        rows = comparison_rows([asdict(r) for r in results if r.protocol == protocol])
        for row in rows:
            result = first(row)
            shares = [_percent(row.get(name)) for name in subjects]
            name = f"{protocol} on {result['layer']}"
            table.add_row(name, text(result["setting"]), *shares, interval_text(result))
        table.add_section()
        sentences.append(result_sentence(protocol, rows))
    Console(file=output_stream()).print(table)
    for sentence in sentences:
        say(sentence)


def _percent(result: dict[str, Any] | None) -> str:
    return "-" if result is None else f"{100 * result['value']:.1f} %"
