"""coview recipes [NAME]"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from coview.cli.options import argument, parse
from coview.core.progress import say


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes, or print one: its numbers, where they come from, what it reached."""

    name: str | None = argument("one recipe", optional=True)


def run(words: Sequence[str]) -> int:
    options = parse(Recipes, "recipes", words)
    from coview.core.values import encode
    from coview.recipes import RECIPES, recipe

    if options.name is None:
        width = max(map(len, RECIPES)) + 2
        for name, make in RECIPES.items():
            say(f"{name:<{width}}{(make.__doc__ or '').splitlines()[0]}")
    else:
        chosen = recipe(options.name)
        say(RECIPES[options.name].__doc__ or "")
        say(json.dumps(encode(chosen), indent=2))
    return 0
