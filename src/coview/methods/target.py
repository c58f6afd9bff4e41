"""Where the keys of a pair objective come from, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coview.core.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class SameNetwork:
    """Keys are embeddings of the network itself; the gradient flows through them."""


@dataclass(frozen=True, slots=True)
class StopGradient:
    """Keys are embeddings of the network itself, as constants (SimSiam's stop-gradient)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EMA:
    """Keys come from a copy of encoder and head whose parameters follow as a moving average.

    After each accepted step xi <- m xi + (1 - m) theta, where m goes from ``start`` to ``end``
    along half a cosine over the run (BYOL, appendix J: m = 1 - (1 - start)(cos(pi k / K) + 1) / 2
    for end 1); equal numbers keep it constant (MoCo). The copy keeps BatchNorm statistics of its
    own. Range 0 <= start <= end <= 1. Raises InvalidValue.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise InvalidValue(
                f"The momentum goes from {self.start} to {self.end}; expected "
                "0 <= start <= end <= 1, such as 0.996 to 1."
            )

    def momentum(self, step: int, total_steps: int | None) -> float:
        """m after step number ``step`` of ``total_steps``, counted from 0.

        Raises InvalidValue where m changes along the run and its length is not known.
        """
        if self.start == self.end:
            return self.end
        if total_steps is None:
            raise InvalidValue("A momentum that grows needs to know the run's number of steps.")
        rising = (math.cos(math.pi * min(1.0, step / total_steps)) + 1) / 2
        return self.end - (self.end - self.start) * rising


Target = SameNetwork | StopGradient | EMA
SAME_NETWORK = SameNetwork()
