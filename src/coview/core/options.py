"""Options declared once: a frozen dataclass that the command line and a Python function both take.

A field of the dataclass is an option. Its metadata holds the help text, the group in the help and,
for a setting of a recipe, the field that it changes. ``coview.cli.options`` makes a parser of such
a class; :func:`takes` makes a function that gets the same options as keyword arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from coview.core.errors import InvalidValue, UnknownName
from coview.core.option_checks import check_options
from coview.core.paths import local_path
from coview.core.plain import KINDS, plain_number, plain_type

T = TypeVar("T")
Options = TypeVar("Options")

OTHER_WORDS: Mapping[str, str] = {
    word: field
    for field, words in {
        "activation_checkpointing": "grad-checkpointing gradient-checkpointing checkpointing",
        "batch_size": "b bs batchsize",
        "budget": "hours max-time minutes time time-limit",
        "cache": "cache-dir",
        "device": "accelerator cuda gpu gpus",
        "dry_run": "dryrun plan",
        "encoder": "arch architecture backbone m model net network",
        "epochs": "e epoch max-epochs n-epochs num-epochs",
        "labels_from": "targets",
        "layers": "feature features layer",
        "import_": "import-file module plugin plugins user-dir",
        "learning_rate": "base-lr learning lr",
        "limit": "max-images max-samples n-images num-samples subset",
        "micro_batch": "accum accumulate grad-accum accumulate-grad-batches",
        "optimizer": "opt optim",
        "out": "dir log-dir logdir name o output output-dir run-name save save-dir",
        "precision": "amp bf16 dtype fp16 half mixed-precision",
        "protocols": "metric metrics protocol",
        "recipe": "algorithm config loss method objective preset ssl",
        "seed": "random-seed",
        "size": "crop-size image-size img-size imgsz input-size resolution",
        "temperature": "t tau temp",
        "to": "f format",
        "warmup_epochs": "warmup warmup-steps",
        "weight_decay": "decay wd",
        "weights": "checkpoint ckpt init pretrained resume-from",
        "workers": "j num-workers threads",
    }.items()
    for word in words.split()
}
"""What other programs call an option of ours: the word -> our field."""


def option(
    text: str, default: Any = None, *, group: str = "options", also: tuple[str, ...] = (),
    changes: str = "", several: bool = False, least: int | None = None,
    choices: tuple[str, ...] = (), endings: tuple[str, ...] = (), names: str = "",
    required: bool = False, numbers: bool = False, extends: tuple[str, ...] = (),
) -> Any:  # fmt: skip
    """An option of the dataclass.

    ``text`` is its help, ``also`` other spellings on the command line, ``changes`` the field of a
    recipe that it sets ("optimizer.weight_decay"), or the function of ``recipes.changes`` that
    does. ``several``: it may be repeated on the command line, which gives a tuple of texts; Python
    takes any value there.

    What :mod:`coview.core.option_checks` sees to: ``required``: it must be given; ``least``, of a
    number; ``numbers``: whole ones separated by commas; ``choices``, of a word; ``endings``, of a
    file that is written, which is none of those that are read; ``extends``: the options whose file
    it may be, because it keeps what is there; ``names``: what it is the path of, as "network".
    """
    metadata = {
        "help": text, "group": group, "also": also, "changes": changes, "several": several,
        "least": least, "choices": choices, "endings": endings, "names": names,
        "required": required, "numbers": numbers,
        "extends": extends,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def argument(text: str, *, optional: bool = False, several: bool = False, names: str = "") -> Any:
    """A positional argument and its help text.

    ``several``: it takes one word or more on the command line, as a tuple of texts. ``names``: see
    :func:`option`.
    """
    metadata = {
        "help": text, "positional": True, "optional": optional, "several": several, "names": names,
    }  # fmt: skip
    return dataclasses.field(default=None, metadata=metadata)


def is_positional(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("positional"))


def flag(name: str) -> str:
    """``learning_rate`` -> ``--learning-rate``; ``import_``, no name in Python -> ``--import``."""
    return "--" + name.rstrip("_").replace("_", "-")


def as_options(text: str, *kinds: type) -> str:
    """``text`` with each field of ``kinds`` in backticks spelled as the command line has it.

    The one place that knows both spellings: errors and notes name fields.
    """
    spelling = {}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            spelling[field.name] = field.name.upper() if is_positional(field) else flag(field.name)
    return re.sub(r"`(\w+)`", lambda match: spelling.get(match[1], match[0]), text)


def takes(options: type[Options]) -> Callable[[Callable[[Options], T]], Callable[..., T]]:
    """A decorator: the function takes the fields of ``options`` as arguments, or one such value.

    Positional fields come first and may be given without a name.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Square:
    ...     side: float = argument("length of a side")
    ...     scale: float = option("of the result", 1.0)
    >>> @takes(Square)
    ... def area(given):
    ...     return given.scale * given.side**2
    >>> area(3.0), area(3.0, scale=2), area(Square(side=1.0))
    (9.0, 18.0, 1.0)
    """
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    positional = [field.name for field in fields if is_positional(field)]
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD
            if is_positional(field)
            else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if is_positional(field) and not field.metadata["optional"]
            else field.default,
            annotation=field.type,
        )
        for field in sorted(fields, key=lambda field: not is_positional(field))
    ]

    def decorate(function: Callable[[Options], T]) -> Callable[..., T]:
        @functools.wraps(function)
        def call(*args: Any, **settings: Any) -> T:
            if len(args) == 1 and not settings and isinstance(args[0], options):
                check_options(args[0])
                return function(args[0])
            if len(args) > len(positional):
                raise InvalidValue(
                    f"{function.__name__} takes {', '.join(positional)} without a name; give the "
                    "other arguments by name."
                )
            value = build_options(options, dict(zip(positional, args, strict=False)) | settings)
            check_options(value)
            return function(value)

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def build_options(options: type[Options], settings: Mapping[str, Any]) -> Options:
    """The value of class ``options`` with these settings, each checked against its type.

    Raises UnknownName for an unknown name, InvalidValue for a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    annotations = typing.get_type_hints(options)
    values = {}
    others = {
        spelling.lstrip("-").replace("-", "_"): field.name
        for field in fields.values()
        for spelling in field.metadata.get("also", ())
    }
    for given, value in settings.items():
        name = others.get(given, given)
        if name not in fields:
            meant = OTHER_WORDS.get(name.replace("_", "-").lower(), "")
            raise UnknownName("argument", name, fields, meant=meant if meant in fields else "")
        if name in values:
            raise InvalidValue(f"`{name}` is given twice, the second time as {given!r}.")
        values[name] = checked(name, value, annotations[name], fields[name].metadata["help"])
    for name, field in fields.items():
        if is_positional(field) and not field.metadata["optional"] and name not in values:
            raise InvalidValue(f"`{name}` is missing: {field.metadata['help']}.")
    return options(**values)


def checked(name: str, value: Any, annotation: Any, about: str = "") -> Any:
    """``value`` as the annotation has it: numpy's numbers become Python's, text becomes a path.

    For an option that may be repeated, one text and a mapping of names to values are taken as well.
    Other types are taken as they are. Raises InvalidValue, which for a text says what is in it by
    ``about``, the help of the option.

    >>> checked("epochs", 3, float | None)
    3.0
    >>> checked("set", {"seed": 3, "method.memory": None}, tuple[str, ...])
    ('seed=3', 'method.memory=none')
    """
    kind = plain_type(annotation)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, Mapping):
            return tuple(f"{key}={'none' if v is None else v}" for key, v in value.items())
        texts = (value,) if isinstance(value, str | Path) else value
        if isinstance(texts, list | tuple) and all(isinstance(text, str | Path) for text in texts):
            return tuple(map(str, texts))
        raise InvalidValue(f"`{name}` is {value!r}; expected texts, or a mapping of fields.")
    if value is None or kind not in KINDS:
        return value
    if kind is str:
        if isinstance(value, str | Path):
            return str(value)
        raise InvalidValue(
            f"`{name}` is {value!r}; expected {KINDS[kind]}{about and f': {about}'}."
        )
    value = plain_number(value)
    if kind is Path and isinstance(value, str | bytes | os.PathLike) and value:
        return local_path(value)
    if kind is bool and isinstance(value, bool):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (kind is float or (kind is int and float(value).is_integer())):
        return kind(value)
    raise InvalidValue(f"`{name}` is {value!r}; expected {KINDS[kind]}.")
