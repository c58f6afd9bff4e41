"""HTML and SVG as nested calls. Text is escaped unless it is :class:`Markup`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """HTML text, which is not escaped again."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """One element. ``class_`` becomes ``class`` and ``stroke_width`` ``stroke-width``.

    Attributes that are None or False are left out; True gives the bare name. Children that are None
    are left out, iterables are flattened, plain text is escaped.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    opening = "<" + name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(opening + ">")
    return Markup(f"{opening}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """The children one after the other; plain text is escaped."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int | float):
        return Markup(html.escape(str(children)))
    return Markup("".join(join(child) for child in children))


def with_code(text: str) -> list[Child]:
    """``text`` with the words in backticks as code elements.

    >>> join(with_code("Raise `epochs`."))
    'Raise <code>epochs</code>.'
    """
    pieces = re.split(r"`([^`]+)`", text)
    return [tag("code", piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def script_data(identifier: str, value: Any) -> Markup:
    """A JSON data block for a script; ``<`` is written as an escape so that no tag can end it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return tag("script", Markup(text), type="application/json", id=identifier)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(str(value))}"'
