"""Typed options from argument words: a frozen dataclass is the table, argparse reads it.

Every mistake is one sentence: the option, what was given, what was expected; an unknown option gets
the nearest known one.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from coview.core.errors import InvalidValue, UnknownName

T = TypeVar("T")

KINDS = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}


def option(
    text: str, default: Any = None, *, group: str = "options", also: tuple[str, ...] = ()
) -> Any:
    """An option of the dataclass: its help text, its default, its group in the help, and other
    spellings of it."""
    metadata = {"help": text, "group": group, "also": also}
    return dataclasses.field(default=default, metadata=metadata)


def argument(text: str, *, optional: bool = False) -> Any:
    """A positional argument: its help text."""
    metadata = {"help": text, "positional": True, "optional": optional}
    return dataclasses.field(default=None, metadata=metadata)


def parse(kind: type[T], verb: str, words: Sequence[str]) -> T:
    """The options of ``coview VERB``. ``--help`` prints and leaves with exit code 0.

    Raises InvalidValue or UnknownName with one sentence for a mistake in ``words``.
    """
    parser = _Parser(prog=f"coview {verb}", description=kind.__doc__, allow_abbrev=False)
    names = _declare(parser, kind)
    found, left = parser.parse_known_args(list(words))
    for word in left:
        if word.startswith("-"):
            raise UnknownName("option", word.split("=", 1)[0], names)
    if left:
        raise InvalidValue(
            f"{' '.join(left)!r} is one argument too many; see coview {verb} --help."
        )
    return kind(**vars(found))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ").replace(": was given", " was given")
        raise InvalidValue(f"{text[:1].upper()}{text[1:]}. See {self.prog} --help.")


def _declare(parser: argparse.ArgumentParser, kind: type) -> list[str]:
    types_of = typing.get_type_hints(kind)
    groups: dict[str, Any] = {"options": parser}
    names = ["--help"]
    for field in dataclasses.fields(kind):
        meta = field.metadata
        if meta.get("positional"):
            count = "?" if meta["optional"] else None
            parser.add_argument(
                field.name, metavar=field.name.upper(), nargs=count, help=meta["help"],
                type=_reader(_plain(types_of[field.name])),
            )  # fmt: skip
            continue
        flag = "--" + field.name.replace("_", "-")
        names += [flag, *meta["also"]]
        if meta["group"] not in groups:
            groups[meta["group"]] = parser.add_argument_group(meta["group"])
        group = groups[meta["group"]]
        plain = _plain(types_of[field.name])
        if plain is bool:
            group.add_argument(flag, dest=field.name, action="store_true", help=meta["help"])
        else:
            group.add_argument(
                flag, *meta["also"], dest=field.name, default=field.default,
                help=_help(meta["help"], field),
                metavar=KINDS[plain].split()[-1].upper(), type=_reader(plain),
            )  # fmt: skip
    return names


def _help(text: str, field: dataclasses.Field[Any]) -> str:
    return text if field.default in (None, "") else f"{text} (default: {field.default})"


def _plain(annotation: Any) -> type:
    """``int`` of ``int | None``; other types as they are."""
    if isinstance(annotation, types.UnionType):
        annotation = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return typing.cast(type, annotation)


def _reader(kind: type) -> Any:
    def read(word: str) -> Any:
        try:
            return kind(word)
        except ValueError:
            expected = f"was given {word!r}; expected {KINDS[kind]}"
            raise argparse.ArgumentTypeError(expected) from None

    return read
