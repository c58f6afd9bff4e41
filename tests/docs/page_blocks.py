"""The fenced blocks of the documentation: which are executed, and why others are not.

A block of ``sh`` or ``python`` is executed. One that cannot be says so where a reader sees it, in
the title of its fence:

    ```sh title="not tested: needs 8 GPUs"

A block of any other language (text, json, ...) is output or a file, which nothing executes.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXECUTED = ("sh", "python")
NOT_TESTED = "not tested: "

_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """``line`` is that of the opening fence; ``reason``: why it is not executed, "" if it is."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def reason(self) -> str:
        if self.language not in EXECUTED:
            return f"{self.language or 'no language'} is not executed"
        return self.title.removeprefix(NOT_TESTED) if self.title.startswith(NOT_TESTED) else ""


def pages() -> list[Path]:
    """README and every page of docs/ that a person wrote; results of benchmarks have no blocks."""
    names = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    found = [ROOT / name for name in names if (ROOT / name).is_file()]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [page for page in found if "results" not in page.parts]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page of Markdown, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match[3].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        found.append(
            Block(
                page=name, line=text.count("\n", 0, match.start()) + 1, language=language,
                title=title[1] if title else "", text=textwrap.dedent(match[4]),
            )
        )  # fmt: skip
    return found


def cells_of(notebook: Path) -> list[Block]:
    """The cells of a notebook that hold code, in order; ``line`` is the number of the cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        Block(notebook.name, number, "python", "", "".join(cell["source"]))
        for number, cell in enumerate(cells)
        if cell["cell_type"] == "code"
    ]
