"""Is it better, or is it chance? The comparisons on which the rules of the diagnosis rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

ERRORS = 2.5  # standard errors of the difference: one-sided level 0.6 %


def has_risen(before: float, now: float, images: int) -> bool:
    """Whether a share of ``images`` has risen by more than chance, at a level of 0.6 %.

    By 2.5 standard errors of the difference of two shares, each with one success and one failure
    added (Agresti and Caffo 2000), which keeps the level for few images and for shares near 0. Both
    are of the same images, whose answers are more alike than those of different ones, so that the
    true level is lower still. Shares in [0, 1]; not a number gives False.

    >>> has_risen(0.10, 0.12, images=1000), has_risen(0.10, 0.20, images=1000)
    (False, True)
    """
    shares = [(share * images + 1) / (images + 2) for share in (before, now)]
    error = math.sqrt(sum(share * (1 - share) for share in shares) / (images + 2))
    return shares[1] - shares[0] > ERRORS * error


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborAccuracy:
    """kNN accuracy on ``images`` held-out images: untrained, now, and by raw pixels if known."""

    untrained: float
    now: float
    images: int
    pixels: float | None = None

    @property
    def has_risen(self) -> bool:
        return has_risen(self.untrained, self.now, self.images)
