"""What the numbers of views must satisfy, and the sentences that refuse them."""

from __future__ import annotations

import math

from coview.core.errors import InvalidValue


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InvalidValue(sentence)


def probability(where: str, value: float) -> None:
    require(0 <= value <= 1, f"{where} is {value}; it is a probability, so give 0 to 1.")


def interval(where: str, bounds: tuple[float, float], low: float, high: float) -> None:
    """A smaller and a larger number, both above ``low`` and up to ``high``."""
    fits = len(bounds) == 2 and low < bounds[0] <= bounds[1] <= high
    limit = f"above {low:g}" if math.isinf(high) else f"above {low:g} and up to {high:g}"
    require(fits, f"{where} is {bounds}; give a smaller and a larger number {limit}.")
