"""A docstring as Markdown, for the pages that are made from docstrings. Imports nothing heavy."""

from __future__ import annotations


def as_markdown(text: str) -> str:
    """A docstring as Markdown: its examples are blocks of code, its double backticks single."""
    lines: list[str] = []
    is_example = False
    for line in text.replace("``", "`").splitlines():
        begins = line.startswith(">>>")
        if begins and not is_example:
            lines.append("```pycon")
        elif is_example and not line.strip():
            lines.append("```")
            is_example = False
        is_example = is_example or begins
        lines.append(line)
    return "\n".join([*lines, "```"] if is_example else lines)
