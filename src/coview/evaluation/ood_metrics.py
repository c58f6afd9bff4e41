"""How well a score tells the data from images from elsewhere, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.evaluation.statistics import RESAMPLES, with_width

KEPT_PERCENT = 95
CHUNK = 50  # resamples at a time: their sums of 10,000 images stay in the cache

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Separation:
    """Figures of one score, each an array [B] of B resamples, or of one point estimate.

    The data (in-distribution test images) should score high, the outliers low. ``auroc``: the
    chance that an image of the data scores higher than an outlier, equal scores as one half.
    ``fpr95``: the share of outliers with at least the score that 95 % of the data reach.
    ``aupr_data`` and ``aupr_outliers``: average precision with the data, or the outliers, as the
    positive class; a score that says nothing reaches the share of that class in both together.
    """

    auroc: Array
    fpr95: Array
    aupr_data: Array
    aupr_outliers: Array

    @classmethod
    def of(cls, data: Array, outliers: Array, counts: tuple[Array, Array] | None = None) -> Self:
        """The figures of scores [N] of the data and [M] of the outliers.

        ``counts``: how often each of them is in each resample, float64 [B, N] and [B, M]; without
        them every image counts once. Raises InvalidValue without images or for scores that are
        not finite.

        >>> figures = Separation.of(np.array([3.0, 2.0]), np.array([2.5, 1.0]))
        >>> figures.auroc, figures.fpr95
        (array([0.75]), array([0.5]))
        """
        for name, scores in (("data", data), ("outliers", outliers)):
            if not (scores.ndim == 1 and len(scores) and np.isfinite(scores).all()):
                raise InvalidValue(
                    f"The scores of the {name} are of shape {scores.shape}"
                    f"{' and not all finite' if len(scores) else ''}; expected one finite number "
                    "for each image, and at least one image."
                )
        if counts is None:
            counts = np.ones((1, len(data))), np.ones((1, len(outliers)))
        order, order_outliers = np.argsort(-data), np.argsort(-outliers)
        data, outliers = data[order], outliers[order_outliers]
        in_data, in_outliers = counts[0][:, order], counts[1][:, order_outliers]
        n, m = in_data.sum(1), in_outliers.sum(1)
        # kept[:, i]: how many of a resample are among the i images with the highest scores.
        kept, kept_outliers = _cumulative(in_data), _cumulative(in_outliers)

        above = kept[:, _reaching(data, outliers, side="left")]
        reaching = kept[:, _reaching(data, outliers)]
        auroc = (in_outliers * (above + reaching)).sum(1) / (2 * n * m)

        needed = np.ceil(KEPT_PERCENT * n / 100)
        place = (kept[:, 1:] < needed[:, None]).sum(1)
        passing = _reaching(outliers, data[place])
        fpr95 = np.take_along_axis(kept_outliers, passing[:, None], 1)[:, 0] / m

        true = kept[:, _reaching(data, data)]
        precision = true / np.maximum(true + kept_outliers[:, _reaching(outliers, data)], 1)
        aupr_data = (in_data * precision).sum(1) / n

        true = m[:, None] - kept_outliers[:, _reaching(outliers, outliers, side="left")]
        precision = true / np.maximum(true + n[:, None] - above, 1)
        aupr_outliers = (in_outliers * precision).sum(1) / m
        return cls(auroc, fpr95, aupr_data, aupr_outliers)


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """Draws with replacement of the data and, independently, of the outliers.

    The same draws serve every score of one pair of data and outliers. Source: Efron, "Bootstrap
    methods: another look at the jackknife", 1979 (two independent samples).
    Shapes: uint16 [B, N] and [B, M], how often an image is drawn.
    """

    data: npt.NDArray[np.uint16]
    outliers: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, data: int, outliers: int, *, seed: int = 0, resamples: int = RESAMPLES) -> Self:
        """``resamples`` draws of that many images each. Raises InvalidValue below 1."""
        if min(data, outliers, resamples) < 1:
            raise InvalidValue(
                f"There are {data} images of the data, {outliers} outliers and {resamples} "
                "resamples; expected at least 1 of each."
            )
        generator = np.random.default_rng(seed)
        return cls(*(_draws(generator, count, resamples) for count in (data, outliers)))

    def intervals(self, data: Array, outliers: Array) -> dict[str, tuple[float, float]]:
        """The 95 % percentile interval of every figure of :class:`Separation`, by its name.

        Where all draws give one value, Wilson's of the fewer images.

        >>> scores = np.arange(100.0)
        >>> resampling = Resampling.of(100, 100)
        >>> low, high = resampling.intervals(scores + 50, scores)["auroc"]
        >>> 0.8 < low < 0.875 < high < 0.93
        True
        """
        parts = [
            Separation.of(
                data, outliers,
                (
                    self.data[start : start + CHUNK].astype(float),
                    self.outliers[start : start + CHUNK].astype(float),
                ),
            )
            for start in range(0, len(self.data), CHUNK)
        ]  # fmt: skip
        intervals = {}
        for name in (field.name for field in fields(Separation)):
            values = np.concatenate([getattr(part, name) for part in parts])
            low, high = np.percentile(values, [2.5, 97.5])
            fewest = min(self.data.shape[1], self.outliers.shape[1])
            intervals[name] = with_width((float(low), float(high)), fewest)
        return intervals


def placements(data: Array, outliers: Array) -> Array:
    """The share of outliers below each score of the data, equal ones as one half: [N] -> [N].

    Their mean over the images of a class is the AUROC of that class.

    >>> placements(np.array([2.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    array([0.375, 1.   ])
    """
    ordered = np.sort(outliers)
    below, up_to = (np.searchsorted(ordered, data, side=side) for side in ("left", "right"))
    shares: Array = (below + up_to) / (2 * len(outliers))
    return shares


def _reaching(falling: Array, thresholds: Array, *, side: str = "right") -> npt.NDArray[np.intp]:
    """How many of the ``falling`` scores are at least each threshold, or above it for "left"."""
    return np.searchsorted(-falling, -thresholds, side=side)  # type: ignore[call-overload,no-any-return]


def _cumulative(counts: Array) -> Array:
    """[B, N] -> [B, N + 1]: sums of the first 0, 1, ..., N columns."""
    sums = np.zeros((len(counts), counts.shape[1] + 1))
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums


def _draws(generator: np.random.Generator, count: int, resamples: int) -> npt.NDArray[np.uint16]:
    draws = np.empty((resamples, count), np.uint16)
    for row in draws:
        row[:] = np.bincount(generator.integers(0, count, count), minlength=count)
    return draws
