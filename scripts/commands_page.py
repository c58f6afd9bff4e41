"""Every command with its options, exit codes included: ``make docs`` writes docs/commands.md.

python scripts/commands_page.py docs      writes commands.md
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

from coview.cli.verbs import STOPPED, VERBS, Verb
from coview.core.figures import DIAGNOSES
from coview.core.options import as_options, flag, is_positional
from coview.core.plain import KINDS, plain_type
from coview.options import (
    CommandOptions,
    DataOptions,
    MachineOptions,
    RecipeOptions,
    TrainingCommandOptions,
    TrainingOptions,
)

INTRODUCTION = """\
# Commands

Made by `make docs` from the options themselves; a test compares. Change those, not this page.

`coview VERB --help` prints the same. The function of the same name in Python, as `coview.pretrain`,
takes the same options with underscores: `--batch-size 64` is `batch_size=64`. Words of Python have
one more: `--with`, `--in` and `--import` are `with_`, `in_` and `import_`. `coview import` is
`coview.import_checkpoint`, `coview views` is `coview.draw_views`; `report`, `cache` and `recipes`
are commands only. An option that several verbs share stands once, at the end of the page."""

SHARED: dict[type, str] = {
    DataOptions: "the data",
    TrainingOptions: "training",
    RecipeOptions: "the method",
    MachineOptions: "the machine",
    CommandOptions: "every command",
    TrainingCommandOptions: "every command that trains",
}
"""Classes of options that several verbs have, and the title of their table."""


def page() -> str:
    """All verbs, then the options that they share, then the exit codes."""
    parts = [INTRODUCTION, *(verb_section(name, verb) for name, verb in VERBS.items())]
    parts.append("## Options that several commands have")
    for kind, title in SHARED.items():
        parts += [f"### Options of {title}", options_table(kind, own_fields(kind))]
    return "\n\n".join([*parts, exit_codes()]) + "\n"


def verb_section(name: str, verb: Verb) -> str:
    """A verb: its line of use, what it does, its own options, and which others it takes."""
    fields = dataclasses.fields(verb.options)  # type: ignore[arg-type]
    words = [_word(field) for field in fields if is_positional(field)]
    has = [kind for kind in SHARED if issubclass(verb.options, kind)]
    shared = {field.name for kind in has for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    own = sorted((f for f in fields if f.name not in shared), key=lambda f: not is_positional(f))
    also = ", ".join(f"[{SHARED[k]}](#options-of-{SHARED[k].replace(' ', '-')})" for k in has)
    text = as_options(" ".join((verb.options.__doc__ or "").split()), verb.options)
    parts = [f"## {name}", f"`{' '.join(['coview', name, *words])}`", text]
    if own:
        parts.append(options_table(verb.options, own))
    return "\n\n".join([*parts, f"Also: options of {also}."] if also else parts)


def own_fields(kind: type) -> list[dataclasses.Field[Any]]:
    """The fields that a class adds to those of its bases."""
    inherited = {f.name for base in kind.__bases__ if dataclasses.is_dataclass(base)
                 for f in dataclasses.fields(base)}  # fmt: skip
    return [f for f in dataclasses.fields(kind) if f.name not in inherited]  # type: ignore[arg-type]


def options_table(kind: type, fields: Iterable[dataclasses.Field[Any]]) -> str:
    """A table of options: how each is typed, what it does, its default where it has one."""
    hints = get_type_hints(kind)
    rows = ["| option | |", "|---|---|"]
    for field in fields:
        text = as_options(field.metadata["help"], kind)
        if field.default not in (None, "", False, (), dataclasses.MISSING):
            text += f" (default: `{field.default}`)"
        rows.append(
            f"| `{_typed(field, hints[field.name])}` | {text.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(rows)


def _typed(field: dataclasses.Field[Any], annotation: Any) -> str:
    if is_positional(field):
        return _word(field)
    kind = plain_type(annotation)
    value = "" if kind is bool else f" {KINDS.get(kind, 'a text').split()[-1].upper()}"
    return f"{flag(field.name)}{value}"


def _word(field: dataclasses.Field[Any]) -> str:
    word = field.name.upper() + ("..." if field.metadata["several"] else "")
    return f"[{word}]" if field.metadata["optional"] else word


def exit_codes() -> str:
    """The table of exit codes."""
    fixed = {
        0: "done",
        1: "`doctor DATA`: the images have a problem (`doctor RUN` has the code of the verdict)",
        2: "a mistake in the command, or in one of all studies; the sentence says which",
    }
    rows = [(code, text) for code, text in fixed.items()]
    rows += [(d.exit_code, f"the run ended as **{label}**: {d.meaning}")
             for label, d in DIAGNOSES.items() if d.exit_code]  # fmt: skip
    rows += [
        (STOPPED, "stopped with everything saved; `coview resume` goes on"),
        (130, "interrupted"),
    ]
    lines = [f"| {code} | {text} |" for code, text in sorted(rows)]
    return "\n".join(["## Exit codes", "", "| code | |", "|---:|---|", *lines])


if __name__ == "__main__":
    (Path(sys.argv[1]) / "commands.md").write_text(page(), encoding="utf-8")
