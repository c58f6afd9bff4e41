"""Which view is compared with which other view, and with what weight."""

from __future__ import annotations

from dataclasses import dataclass

from coview.core.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Pair:
    """The query of view ``query`` is compared with the key of view ``key``; views count from 0.

    The loss is the sum over pairs of ``weight`` times the objective. ``stop_gradient``: the key and
    the negatives are constants here even if the target is the same network. Raises InvalidValue.

    >>> Pair(0, 1, weight=0.5)
    Pair(query=0, key=1, weight=0.5, stop_gradient=False)
    """

    query: int
    key: int
    weight: float = 1.0
    stop_gradient: bool = False

    def __post_init__(self) -> None:
        if self.query == self.key or min(self.query, self.key) < 0:
            raise InvalidValue(
                f"A pair compares the views {self.query} and {self.key}; "
                "expected two different views, counted from 0."
            )


Pairing = tuple[Pair, ...]

ONE_WAY: Pairing = (Pair(0, 1),)
"""View 0 is the query, view 1 the key (MoCo)."""

BOTH_WAYS: Pairing = (Pair(0, 1, 0.5), Pair(1, 0, 0.5))
"""The mean of both directions."""
