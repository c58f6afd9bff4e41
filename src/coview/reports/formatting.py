"""Numbers and JSON values as text for a person."""

from __future__ import annotations

import math
from typing import Any

NARROW = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"


def percent(share: float) -> str:
    """0.8123 -> "81.2 %"; small shares keep two significant digits."""
    value = 100 * share
    digits = 1 if abs(value) >= 1 or value == 0 else 2
    return f"{value:.{digits}f}{NARROW}%".replace("-", MINUS)


def count(value: float) -> str:
    """12345 -> "12,345".

    >>> count(12345)
    '12,345'
    """
    return f"{value:,.0f}".replace("-", MINUS)


def decimal(value: float) -> str:
    """Three significant digits; an exponent only below 1e-4 and from 1e7.

    >>> decimal(6.9305), decimal(12345), decimal(3e9)
    ('6.93', '12,345', '3e9')
    """
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        digits = max(0, 2 - math.floor(math.log10(size)))
        text = f"{value:.{min(digits, 6)}f}"
        text = text.rstrip("0").rstrip(".") if digits > 2 else text
    return text.replace("-", MINUS)


def cosine(value: float, digits: int = 2) -> str:
    """Two decimals, or ``digits``, with the sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def millions(value: float) -> str:
    """11173962 -> "11.2 M"; below 10,000 all digits."""
    if abs(value) < 10_000:
        return count(value)
    for limit, scale, letter in ((1e6, 1e3, "k"), (1e9, 1e6, "M"), (math.inf, 1e9, "G")):
        if abs(value) < limit * 0.9995:
            return f"{value / scale:.3g}{NARROW}{letter}"
    raise AssertionError(value)


def duration(seconds: float) -> str:
    """Seconds in the two largest units: 75 -> "1 min 15 s"."""
    if seconds < 59.5:
        return f"{seconds:.0f}{NARROW}s" if seconds >= 10 else f"{seconds:.1f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (size, _) in enumerate(units) if size)
    return " ".join(f"{size}{NARROW}{unit}" for size, unit in units[first : first + 2] if size)


def value(item: Any) -> str:
    """A JSON value of a recipe or a protocol card in one line.

    >>> value({"k": 20, "weights": [0.75, None]})
    'k 20, weights 0.75, none'
    """
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return count(item)
    if isinstance(item, float):
        return f"{item:.6g}".replace("e-0", "e-")
    if isinstance(item, list):
        return ", ".join(value(part) for part in item) if item else "none"
    if isinstance(item, dict):
        return ", ".join(f"{key} {value(part)}" for key, part in item.items())
    return str(item)
