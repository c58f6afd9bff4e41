"""HTML and SVG as nested calls; whatever is not :class:`Markup` already is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "hr", "img", "link", "meta"})


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """One element. ``class_`` becomes ``class`` and ``stroke_width`` ``stroke-width``.

    Attributes that are None or False are left out; True stands alone. Children that are None are
    left out, iterables are flattened, plain text is escaped.
    """
    opening = "<" + name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(opening + ">")
    return Markup(f"{opening}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """The children one after the other, escaped where they are not markup yet."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int | float):
        return Markup(html.escape(str(children)))
    return Markup("".join(join(child) for child in children))


def script_data(identifier: str, value: Any) -> Markup:
    """A JSON data block that a script can read; ``<`` is written so that no tag can end it."""
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
