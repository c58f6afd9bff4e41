"""Which protocols an evaluation runs: by name, by default, or all whose data are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from coview import evaluation
from coview.core.errors import InvalidValue, UnknownName
from coview.core.progress import say
from coview.options import EvaluateOptions

NEEDS = {"outliers": "outliers", "others": "transfer", "corrupted": "corrupted"}
"""What a protocol needs of the benchmark -> the option that gives it."""
DEFAULT, ALL = "default", "all"


def chosen_protocols(options: EvaluateOptions) -> list[evaluation.Protocol]:
    """The protocols that are named, each once. Raises UnknownName, InvalidValue."""
    known = evaluation.PROTOCOLS
    given = {name for name in NEEDS.values() if _given(getattr(options, name))}
    chosen: dict[str, evaluation.Protocol] = {}
    for word in words(options.protocols):
        if word == DEFAULT:
            chosen |= {name: each for name, each in known.items() if each.default}
        elif word == ALL:
            for name, each in known.items():
                if lacking := [option for option in needed(each) if option not in given]:
                    say(f"The protocol {name!r} is left out: it needs `{lacking[0]}`.")
                else:
                    chosen[name] = each
        elif word in known:
            for option in needed(known[word]):
                if option not in given:
                    raise InvalidValue(
                        f"The protocol {word!r} needs more data than `data`; give them by "
                        f"`{option}`."
                    )
            chosen[word] = known[word]
        else:
            raise UnknownName("protocol", word, [*known, DEFAULT, ALL])
    if not chosen:
        raise InvalidValue(f"`protocols` names none; expected some of {', '.join(known)}.")
    return list(chosen.values())


def needed(protocol: evaluation.Protocol) -> list[str]:
    """The options that give what a protocol needs besides the data."""
    return [NEEDS.get(need, need) for need in protocol.needs]


def words(text: object) -> tuple[str, ...]:
    """Names from a list, or from a text with commas. Raises InvalidValue for anything else.

    >>> words("knn, linear"), words(["h"])
    (('knn', 'linear'), ('h',))
    """
    if isinstance(text, str):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    if isinstance(text, Iterable):
        return tuple(map(str, text))
    raise InvalidValue(f"{text!r} are no names; expected a list of texts, or one with commas.")


def _given(value: Any) -> bool:
    """Whether an option that takes data was given; an array has no truth."""
    return value is not None and not (isinstance(value, list | tuple | Mapping) and not value)
