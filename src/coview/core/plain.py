"""The plain types that options and recipes are made of, and their values as people write them."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS: Mapping[type, str] = {
    int: "a whole number", float: "a number", str: "a text", Path: "a path", bool: "true or false",
}  # fmt: skip


def plain_type(annotation: Any) -> Any:
    """``int`` of ``int | None``; other types as they are.

    >>> plain_type(int | None)
    <class 'int'>
    """
    if isinstance(annotation, types.UnionType):
        return next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return annotation


def number(kind: type, text: str) -> int | float:
    """``text`` as a finite number of ``kind``, int or float. Raises ValueError.

    >>> number(int, "1e3"), number(float, "0.5")
    (1000, 0.5)
    """
    if kind is int and text.strip().lstrip("+-").isdecimal():
        return int(text)  # a float would round a large seed
    value = float(text)
    if not math.isfinite(value) or (kind is int and not value.is_integer()):
        raise ValueError(text)
    return int(value) if kind is int else value


def finite(value: Any) -> Any:
    """``value`` with None for every number that is not finite, as JSON has no such numbers.

    >>> finite({"loss": float("nan"), "sides": (1, float("inf"))})
    {'loss': None, 'sides': [1, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def plain_number(value: Any) -> Any:
    """Python's number of a number of numpy or torch without dimensions; other values as they are.

    >>> import numpy as np
    >>> plain_number(np.int64(2)), plain_number(np.array(0.5)), plain_number([2])
    (2, 0.5, [2])
    """
    is_scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if is_scalar else value
