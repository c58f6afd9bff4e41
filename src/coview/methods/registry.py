"""Methods by name: a file of this room that defines a function of its own name is a method."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from coview.core.errors import UnknownName
from coview.methods.method import Method


def names() -> tuple[str, ...]:
    """The names of all methods, in alphabetical order."""
    return tuple(sorted(_functions()))


def named(name: str) -> Callable[..., Method]:
    """The function that makes the method ``name``, as a file or a command spells it ("simclr_v2",
    "simclr-v2"). Raises UnknownName."""
    functions, stem = _functions(), name.replace("-", "_")
    if stem not in functions:
        raise UnknownName("method", name, functions)
    return functions[stem]


def _functions() -> dict[str, Callable[..., Method]]:
    package = __package__ or ""
    stems = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    found = {stem: getattr(import_module(f"{package}.{stem}"), stem, None) for stem in stems}
    return {stem: function for stem, function in found.items() if callable(function)}
