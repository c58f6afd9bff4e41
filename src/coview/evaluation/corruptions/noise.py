"""Gaussian, shot and impulse noise. Images are uint8 [B, H, W, 3]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.evaluation.corruptions.draws import Draws, Floats
from coview.evaluation.corruptions.parameters import Strength

Images = npt.NDArray[np.uint8]


def to_bytes(values: Floats) -> Images:
    """Values in [0, 1] clamped and cut off to bytes, as the published images are."""
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(images: Images, strength: Strength, draws: Draws) -> Images:
    """x + N(0, s^2), independent for every value."""
    (deviation,) = strength
    return to_bytes(images / 255 + deviation * draws.normal(*images.shape[1:]))


def shot_noise(images: Images, strength: Strength, draws: Draws) -> Images:
    """Poisson(c x) / c: the noise of counting c photons at value 1."""
    (photons,) = strength
    return to_bytes(poisson_counts(images, photons, draws.uniform(*images.shape[1:])) / photons)


def poisson_counts(images: Images, photons: float, uniform: Floats) -> Floats:
    """Poisson numbers of the means ``photons * images / 255``, by inversion of ``uniform``.

    The count is the number of values of the distribution function at or below the uniform number.
    """
    levels = np.arange(256)
    from scipy.stats import poisson  # slow to import

    longest = int(poisson.isf(2.0**-30, photons)) + 1
    table = poisson.cdf(np.arange(longest)[None], photons * levels[:, None] / 255)
    # One search for all levels: level l occupies [l, l + 1) of one ascending list.
    places = np.searchsorted((np.minimum(table, 1.0) + levels[:, None]).ravel(),
                             images + uniform, side="right")  # fmt: skip
    counts: Floats = (places - images.astype(np.int64) * longest).astype(np.float64)
    return counts


def impulse_noise(images: Images, strength: Strength, draws: Draws) -> Images:
    """Salt and pepper: a share of all values becomes 0 or 255, each equally likely."""
    (share,) = strength
    uniform = draws.uniform(*images.shape[1:])
    pepper, changed = uniform < share / 2, uniform < share
    noisy: Images = np.where(changed, np.where(pepper, 0, 255), to_bytes(images / 255))
    return noisy.astype(np.uint8)
