"""Which view asks which other view, and with what weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coview.core.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Pair:
    """The view in slot ``query`` is compared with the key of slot ``key``; slots count from 0.

    The loss is the sum over pairs of ``weight`` times the objective. ``stop_gradient``: the key and the
    negatives are constants here even where the target is shared. Raises InvalidValue.
    """

    query: int
    key: int
    weight: float = 1.0
    stop_gradient: bool = False

    def __post_init__(self) -> None:
        if self.query == self.key or min(self.query, self.key) < 0:
            raise InvalidValue(
                f"A pair compares the views in slots {self.query} and {self.key}; "
                "expected two different slots, counted from 0."
            )


Pairing = tuple[Pair, ...]

ONE_WAY: Pairing = (Pair(0, 1),)
"""View 0 asks, view 1 answers (MoCo)."""

BOTH_WAYS: Pairing = (Pair(0, 1, 0.5), Pair(1, 0, 0.5))
"""The mean of both directions."""


def queries(pairing: Iterable[Pair]) -> tuple[int, ...]:
    """The slots that ask, in ascending order."""
    return tuple(sorted({pair.query for pair in pairing}))


def keys(pairing: Iterable[Pair]) -> tuple[int, ...]:
    """The slots that answer, in ascending order."""
    return tuple(sorted({pair.key for pair in pairing}))
