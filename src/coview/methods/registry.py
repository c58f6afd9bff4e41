"""Methods by name.

A file of this package that defines a function of its own name is a method. Adding the file
``coview/methods/simclr.py`` with a function ``simclr(size, ...) -> Method`` therefore makes
``simclr`` a word of the command line; no list has to be changed.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from coview.core.errors import UnknownName
from coview.methods.method import Method


def list_methods() -> tuple[str, ...]:
    """The names of all methods, in alphabetical order.

    >>> list_methods()[:2]
    ('byol', 'moco')
    """
    return tuple(sorted(_functions()))


def get_method(name: str) -> Callable[..., Method]:
    """The function that makes the method ``name``, in the spelling of a file ("simclr_v2") or of a
    command ("simclr-v2"). Raises UnknownName.

    >>> get_method("simclr-v2")(32).name
    'simclr_v2'
    """
    functions, stem = _functions(), name.replace("-", "_")
    if stem not in functions:
        raise UnknownName("method", name, functions)
    return functions[stem]


def _functions() -> dict[str, Callable[..., Method]]:
    package = __package__ or ""
    stems = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    values = {stem: getattr(import_module(f"{package}.{stem}"), stem, None) for stem in stems}
    return {stem: value for stem, value in values.items() if callable(value)}
