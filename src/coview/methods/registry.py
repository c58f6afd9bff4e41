"""Methods by name.

A file of this package that defines a function of its own name is a method. Adding the file
``coview/methods/simclr.py`` with a function ``simclr(size, ...) -> Method`` therefore makes
``simclr`` a word of the command line; no list has to be changed. A function elsewhere is made one
by :func:`register_method`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from coview.core.errors import InvalidValue, UnknownName
from coview.methods.method import Method

Function = TypeVar("Function", bound=Callable[..., object])


def list_methods() -> tuple[str, ...]:
    """The names of all methods, in alphabetical order.

    >>> list_methods()[:2]
    ('byol', 'moco')
    """
    return tuple(sorted(name.replace("-", "_") for name in METHODS))


def get_method(name: str) -> Callable[..., Method]:
    """The function that makes the method ``name``, in the spelling of a file ("simclr_v2") or of a
    command ("simclr-v2"). Raises UnknownName.

    >>> get_method("simclr-v2")(32).name
    'simclr_v2'
    """
    word = name.replace("_", "-")
    if word not in METHODS:
        raise UnknownName("method", name.replace("-", "_"), list_methods())
    return METHODS[word]


def register_method(function: Callable[..., Method]) -> Callable[..., Method]:
    """A decorator: ``function(size, ...) -> Method`` is a method under its own name from here on.

    ``coview pretrain DATA --import FILE.py --recipe NAME`` trains it. Raises InvalidValue where
    Coview has a method of this name.

    >>> from dataclasses import replace
    >>> @register_method
    ... def cooler(size):
    ...     return replace(get_method("simclr")(size, temperature=0.2), name="cooler")
    >>> get_method("cooler")(32).objective.temperature, METHODS.pop("cooler") is cooler
    (0.2, True)
    """
    return register(function, METHODS, "method")


def register(function: Function, functions: dict[str, Function], kind: str) -> Function:
    """Enter ``function`` by its name with hyphens. Raises InvalidValue for a name of Coview's."""
    word = function.__name__.replace("_", "-")
    if word in functions and functions[word].__module__.startswith("coview."):
        raise InvalidValue(f"Coview has a {kind} {word!r} already; choose another name for yours.")
    functions[word] = function
    return function


def _functions() -> dict[str, Callable[..., Method]]:
    package = __package__ or ""
    stems = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    values = {stem: getattr(import_module(f"{package}.{stem}"), stem, None) for stem in stems}
    return {stem.replace("_", "-"): value for stem, value in values.items() if callable(value)}


METHODS: dict[str, Callable[..., Method]] = _functions()
"""Every registered method by its word on the command line, with hyphens."""
