"""coview recipes [NAME]"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse
from coview.core.errors import InvalidValue
from coview.core.progress import say


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes, or print one: its numbers, where they come from, what it reached."""

    name: str | None = argument("one recipe", optional=True)
    page: Path | None = option("write all methods and recipes to this file, in Markdown")


def run(words: Sequence[str]) -> int:
    options = parse(Recipes, "recipes", words)
    if options.page is not None:
        _write_all(options.page, options.name)
    elif options.name is not None:
        _print_one(options.name)
    else:
        _list_all()
    return 0


def _list_all() -> None:
    from coview.recipes import RECIPES

    width = max(map(len, RECIPES)) + 2
    for name, make in RECIPES.items():
        say(f"{name:<{width}}{(make.__doc__ or '').splitlines()[0]}")


def _print_one(name: str) -> None:
    from coview.core.values import encode
    from coview.recipes import RECIPES, recipe

    chosen = recipe(name)
    say(RECIPES[name].__doc__ or "")
    say(json.dumps(encode(chosen), indent=2))


def _write_all(path: Path, name: str | None) -> None:
    from coview.core.files import write_text
    from coview.recipes.page import page

    if name is not None:
        raise InvalidValue(f"--page writes every recipe; leave out {name!r}, or --page.")
    write_text(path, page())
    say(f"Methods and recipes: {path}")
