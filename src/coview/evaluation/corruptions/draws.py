"""Random numbers of a corruption: keyed by seed, image id, corruption and severity."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from coview.core.rng import Stream, uniforms

Floats = npt.NDArray[np.float64]

PART_VIEWS = 2048
"""View numbers for one part: 2^27 blocks of four numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """The numbers of B images. ``key`` tells corruption and severity apart.

    Each number depends on seed, key, image id, part and its place only, never on the batch.
    """

    ids: npt.NDArray[np.int64]
    seed: int
    key: int

    def uniform(self, *shape: int, part: int = 0) -> Floats:
        """Uniform numbers in [0, 1), multiples of 2^-24: [B, *shape]. ``part`` in 0 .. 31."""
        numbers = uniforms(
            self.seed, Stream.CORRUPTIONS, self.ids, epoch=self.key, view=part * PART_VIEWS,
            count=prod(shape),
        )  # fmt: skip
        return numbers.astype(np.float64).reshape(len(self.ids), *shape)

    def normal(self, *shape: int, part: int = 0) -> Floats:
        """Standard normal numbers, by inversion: [B, *shape], within 5.5 deviations."""
        values: Floats = ndtri(self.uniform(*shape, part=part) + 2.0**-25)
        return values
