"""Frozen values (recipes, methods, specifications) to JSON and back, and their hash.

A value is a frozen dataclass whose fields hold str, int, float, bool, None, tuples, or other
values. Each is written with its class name under "type", and only classes that the reader names
are ever built: no import and no code follows from what a file says.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, TypeVar

from coview.core.errors import InvalidValue, UnknownName, UnknownValue
from coview.core.files import digest

Value = TypeVar("Value")


def encode(value: Any) -> Any:
    """The JSON form of ``value``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InvalidValue(f"A recipe holds plain values only; {value!r} is a {type(value).__name__}.")


def decode(data: Any, known: Iterable[type]) -> Any:
    """The value whose JSON form is ``data``; its classes must all be in ``known``.

    Raises UnknownValue for a class and UnknownName for a field that is not known.
    """
    classes = {cls.__name__: cls for cls in known}

    def build(node: Any) -> Any:
        if isinstance(node, list):
            return tuple(build(item) for item in node)
        if not isinstance(node, dict):
            return node
        name = node.get("type", "")
        if name not in classes:
            raise UnknownValue(str(name), classes)
        fields = [f.name for f in dataclasses.fields(classes[name])]
        for key in node:
            if key != "type" and key not in fields:
                raise UnknownName(f"field of {name}", key, fields)
        return classes[name](**{key: build(item) for key, item in node.items() if key != "type"})

    return build(data)


def decode_one(data: Any, kind: type[Value]) -> Value:
    """The value of class ``kind`` whose JSON form is ``data``.

    Raises InvalidValue where ``data`` is no such object, UnknownName for a field not known.
    """
    value = decode(data, [kind])
    if not isinstance(value, kind):
        raise InvalidValue(f"A {kind.__name__} is written as a JSON object; got {data!r}.")
    return value


def fingerprint(value: Any) -> str:
    """The hash by which a value is named in results: of its canonical JSON."""
    return digest(json.dumps(encode(value), sort_keys=True, allow_nan=False).encode())
