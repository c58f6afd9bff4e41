"""coview recipes [NAME]"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coview.cli.options import argument, option, parse
from coview.core.errors import InvalidValue, UnknownName
from coview.core.progress import say


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes, those of a method, or print one to its last number."""

    name: str | None = argument("one recipe, or a method", optional=True)
    page: Path | None = option("write all methods and recipes to this file, in Markdown")


def main(words: Sequence[str]) -> int:
    options = parse(Recipes, "recipes", words)
    if options.page is not None:
        _write_all(options.page, options.name)
        return 0
    from coview.recipes import METHODS, RECIPES

    name = options.name
    if name is None or name in METHODS:
        _list([known for known in RECIPES if name is None or _is_of(known, name)])
    else:
        _print_one(name)
    return 0


def _is_of(recipe: str, method: str) -> bool:
    """Whether a recipe, as logo-moco-cpu or moco-v1-imagenet, is one of the method, as moco."""
    from coview.recipes import METHODS

    parts = recipe.removeprefix("logo-").removeprefix("multi-crop-")
    return method == max((m for m in METHODS if parts.startswith(m)), key=len)


def _list(names: Sequence[str]) -> None:
    from coview.recipes import RECIPES

    width = max(map(len, names)) + 2
    for name in names:
        make = RECIPES[name]
        say(f"{name:<{width}}{(make.__doc__ or '').splitlines()[0]}")


def _print_one(name: str) -> None:
    from coview.core.values import encode
    from coview.recipes import METHODS, RECIPES, recipe

    if name not in RECIPES:
        raise UnknownName("recipe or method", name, [*METHODS, *RECIPES])
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
