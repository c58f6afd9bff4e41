"""Argument words -> the options of a verb: a frozen dataclass is the table, argparse reads it.

Every mistake is one sentence: the option, its value, what was expected. An unknown option gets the
nearest known one.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import OTHER_WORDS, as_options, flag, is_positional
from coview.core.paths import local_path
from coview.core.plain import KINDS, number, plain_type
from coview.options import GROUPS, CommandOptions

T = TypeVar("T")
U = TypeVar("U")


def parse(options: type[T], verb: str, words: Sequence[str]) -> T:
    """The options of ``coview VERB``; see :func:`parse_command`."""
    return parse_command(options, CommandOptions, verb, words)[0]


def parse_command(
    options: type[T], command: type[U], verb: str, words: Sequence[str]
) -> tuple[T, U]:
    """(the options of the function, those of the command alone) of ``coview VERB``.

    ``--help`` prints and leaves with exit code 0. Raises InvalidValue or UnknownName with one
    sentence for a mistake in ``words``.
    """
    parser = _Parser(
        prog=f"coview {verb}",
        description=as_options(" ".join((options.__doc__ or "").split()), options),
        allow_abbrev=False,
    )
    flags = _declare(parser, options, command)
    # Options may stand between the words of an argument that takes several.
    values, rest = parser.parse_known_intermixed_args(list(words))
    for word in rest:
        if word.startswith("-"):
            word = word.split("=", 1)[0]
            meant = flag(OTHER_WORDS.get(word.lstrip("-").replace("_", "-").lower(), ""))
            raise UnknownName("option", word, flags, meant=meant if meant in flags else "")
    if rest:
        raise InvalidValue(too_many(rest, f"coview {verb} --help"))
    read = {name: tuple(v) if isinstance(v, list) else v for name, v in vars(values).items()}
    return _take(options, read), _take(command, read)


def too_many(words: Sequence[str], explained: str) -> str:
    """What is said of arguments for which there is no place; ``explained``: where the others are.

    >>> too_many(["b.jpg", "c.jpg"], "coview pretrain --help")
    "'b.jpg' and 1 more are too many arguments; see coview pretrain --help."
    """
    folders = {Path(word).parent for word in words}
    if len(words) > 1 and len(folders) == 1 and all(Path(word).is_file() for word in words):
        return f"Several files are too many arguments; give their folder, {folders.pop()}."
    if len(words) == 1:
        return f"{words[0]!r} is one argument too many; see {explained}."
    return f"{words[0]!r} and {len(words) - 1} more are too many arguments; see {explained}."


def _take(kind: type[T], values: dict[str, Any]) -> T:
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: values[name] for name in names})


SETTINGS = {
    "epochs": "epochs", "learning_rate": "optimizer.learning_rate", "encoder": "encoder",
    "temperature": "method.objective.temperature",
}  # fmt: skip
"""The field of the recipe that an option sets, where the option does not say it."""


def as_settings(text: str, kind: type, own: type) -> str:
    """``text`` with the options of ``kind`` in backticks that ``own`` lacks, as `--set` has them;
    a number behind is the value."""
    paths = {}
    have = {field.name for field in dataclasses.fields(own)}
    for field in dataclasses.fields(kind):
        path = SETTINGS.get(field.name, str(field.metadata.get("changes") or "with_"))
        if field.name not in have and not path.startswith("with_"):
            paths[field.name] = path

    def spelled(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in paths:
            return match[0]
        given = "" if value is None else f"={value.strip().replace(',', '')}"
        return f"--set {paths[name]}{given}"

    return re.sub(r"`(\w+)`( \d(?:[\d,.]*\d)?)?", spelled, text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ").replace(": was given", " was given")
        raise InvalidValue(f"{text[:1].upper()}{text[1:]}. See {self.prog} --help.")


def _declare(parser: argparse.ArgumentParser, options: type, command: type) -> list[str]:
    annotations = typing.get_type_hints(options) | typing.get_type_hints(command)
    groups: dict[str, Any] = {"options": parser}
    flags = ["--help"]
    order = {group: number for number, group in enumerate(("", *GROUPS))}
    fields = (*dataclasses.fields(options), *dataclasses.fields(command))
    for field in sorted(fields, key=lambda f: order.get(f.metadata.get("group", ""), 0)):
        meta, kind = field.metadata, plain_type(annotations[field.name])
        if is_positional(field):
            parser.add_argument(
                field.name, metavar=field.name.upper(), nargs=_nargs(meta),
                type=_reader(kind), help=meta["help"].replace("%", "%%"),
            )  # fmt: skip
            continue
        flags += [flag(field.name), *meta["also"]]
        if meta["group"] not in groups:
            groups[meta["group"]] = parser.add_argument_group(meta["group"])
        settings = _settings(field, kind, options)
        groups[meta["group"]].add_argument(
            flag(field.name), *meta["also"], dest=field.name, **settings
        )
    return flags


def _nargs(meta: Mapping[str, Any]) -> str | None:
    return "+" if meta["several"] else "?" if meta["optional"] else None


def _settings(field: dataclasses.Field[Any], kind: Any, options: type) -> dict[str, Any]:
    text = as_options(field.metadata["help"], options)
    if field.default not in (None, "", False, ()):
        text = f"{text} (default: {field.default})"
    text = text.replace("%", "%%")  # argparse formats it
    if kind is bool:
        return {"action": "store_true", "help": text}
    if field.metadata["several"] or typing.get_origin(kind) is tuple:  # may be repeated
        return {"action": "append", "help": text, "metavar": "TEXT", "type": str, "default": []}
    metavar = KINDS.get(kind, "a text").split()[-1].upper()
    return {"default": field.default, "help": text, "metavar": metavar, "type": _reader(kind)}


def _reader(kind: Any) -> Any:
    if kind not in KINDS:
        return str

    def read(word: str) -> Any:
        try:
            if kind is Path:
                return local_path(word)
            return number(kind, word) if kind in (int, float) else kind(word)
        except ValueError:
            expected = f"was given {word!r}; expected {KINDS[kind]}"
            raise argparse.ArgumentTypeError(expected) from None

    return read
