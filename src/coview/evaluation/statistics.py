"""Uncertainty: intervals, the test of two paired subjects, the correction of several tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, stream_seed

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
RESAMPLES = 1000
WEIGHTED_RESAMPLES = 200
"""Of figures that take long to compute."""
NO_WIDTH = 1e-9
"""Means of equal numbers may differ by less, from rounding."""


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of ``count`` independent trials, within [0, 1].

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    Raises InvalidValue unless 0 <= share <= 1 and count >= 1.

    >>> low, high = wilson_interval(0.8, 100)
    >>> round(low, 3), round(high, 3)
    (0.711, 0.867)
    """
    if not (0 <= share <= 1 and count >= 1):
        raise InvalidValue(
            f"`share` is {share} and `count` is {count}; expected a share in [0, 1] and at least 1."
        )
    weight = Z_95**2 / count
    center = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def with_width(interval: tuple[float, float], count: int) -> tuple[float, float]:
    """``interval`` of a share; where it has no width, Wilson's of ``count`` images in its place.

    Where all images give the same value, every draw of them does, which says nothing of others. No
    mean of values in [0, 1] varies more than that of outcomes, which Wilson's interval is of.

    >>> with_width((0.4, 0.6), 10)
    (0.4, 0.6)
    >>> low, high = with_width((1.0, 1.0), 10)
    >>> round(low, 3), high
    (0.722, 1.0)
    """
    low, high = interval
    if high - low > NO_WIDTH:
        return interval
    return wilson_interval(min(max(low, 0.0), 1.0), count)


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, *, seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:  # fmt: skip
    """The 95 % percentile interval of a statistic of ``count`` test images.

    ``statistic`` maps rows int64 [count], drawn with replacement, to a number; a draw for which it
    is NaN is left out. Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    Raises InvalidValue for fewer than 1 image or resample.

    >>> values = np.arange(100.0)
    >>> low, high = bootstrap_interval(lambda rows: float(values[rows].mean()), 100)
    >>> 43 < low < 45, 54 < high < 56
    (True, True)
    """
    values = _resampled(statistic, count, seed, resamples)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def normal_interval(
    statistic: Callable[[npt.NDArray[np.int64]], float], value: float, count: int, *,
    within: tuple[float, float], seed: int = 0, resamples: int = RESAMPLES,
) -> tuple[float, float]:  # fmt: skip
    """``value`` and 1.96 bootstrap standard errors to each side, cut to the range ``within``.

    For a statistic that copies of an image raise, as those of a table of clusters and classes: a
    draw with replacement holds copies, so that the percentiles lie above the value. The other
    arguments are those of :func:`bootstrap_interval`. Source: Efron and Tibshirani, "An
    introduction to the bootstrap", 1993, chapter 12.

    >>> values = np.arange(100.0)
    >>> low, high = normal_interval(
    ...     lambda rows: float(values[rows].mean()), 49.5, 100, within=(0, 99)
    ... )
    >>> 43 < low < 45, 54 < high < 56
    (True, True)
    """
    half = Z_95 * float(np.nanstd(_resampled(statistic, count, seed, resamples), ddof=1))
    low, high = within
    return max(low, value - half), min(high, value + half)


def _resampled(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, seed: int, resamples: int
) -> list[float]:
    if count < 1 or resamples < 1:
        raise InvalidValue(
            f"`count` is {count} and `resamples` is {resamples}; expected at least 1 of each."
        )
    generator = np.random.default_rng(seed)
    return [statistic(generator.integers(0, count, count)) for _ in range(resamples)]


def weighted_interval(
    figure: Callable[[npt.NDArray[np.float64]], float], images: int, *, part: str, seed: int = 0,
    resamples: int = WEIGHTED_RESAMPLES,
) -> tuple[float, float]:  # fmt: skip
    """The 95 % percentile interval of a figure that weighs its test images.

    ``figure`` maps weights float64 [images], how often each image is drawn, to a number; a draw for
    which it is NaN is left out, and both ends are NaN if it is for all. ``part`` names the draws: a
    figure of another name gets unrelated ones. Source: that of :func:`bootstrap_interval`.

    >>> values = np.arange(100.0)
    >>> low, high = weighted_interval(lambda w: float(w @ values) / 100, 100, part="an example")
    >>> 43 < low < 45, 54 < high < 56
    (True, True)
    """
    generator = np.random.default_rng(stream_seed(seed, Stream.PROBE, part))
    chances = np.full(images, 1 / images)
    draws = [
        figure(generator.multinomial(images, chances).astype(np.float64)) for _ in range(resamples)
    ]
    known = [value for value in draws if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds or draws (Student); (-inf, inf) of a single value.

    >>> low, high = mean_interval([0.8, 0.9, 1.0])
    >>> round(low, 3), round(high, 3)
    (0.652, 1.148)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return -math.inf, math.inf
    from scipy import stats  # slow to import

    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)) / math.sqrt(
        len(values)
    )
    return mean - half, mean + half


def one_sided(values: Sequence[float], above: float) -> tuple[float, float]:
    """The p values that the mean lies above, and below, ``above`` (Student); 1, 1 for one value.

    Equal values have no spread to measure a distance by, and few accuracies of few images are often
    equal: they count as a sign test of as many values, 1/2 ** n.

    >>> above, below = one_sided([1.0, 2.0, 3.0], 0.0)
    >>> round(above, 4), round(below, 4)
    (0.0371, 0.9629)
    """
    if len(values) < 2:
        return 1.0, 1.0
    distance = statistics.fmean(values) - above
    deviation = statistics.stdev(values)
    if deviation <= 1e-9 * max(abs(value) for value in values):  # equal but for their rounding
        sign = 0.5 ** len(values)
        return (sign, 1.0) if distance > 0 else (1.0, sign) if distance < 0 else (1.0, 1.0)
    from scipy import stats  # slow to import

    t = distance / (deviation / math.sqrt(len(values)))
    return float(stats.t.sf(t, len(values) - 1)), float(stats.t.cdf(t, len(values) - 1))


def paired_permutation_test(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """The two-sided p value of a difference of accuracies on the same test images.

    The null hypothesis: which of the two subjects gave an answer says nothing, so that their
    outcomes may be exchanged image by image. The distribution of the difference over all exchanges
    is a binomial one of the images on which they differ: the value is exact. It covers the choice
    of test images, not that of seeds. Source: Kornblith et al., "Do better ImageNet models
    transfer better?", 2019 (by 100,000 draws).

    Shapes: bool [N] each, correct or not. Raises InvalidValue for other lengths.

    >>> first = np.array([True] * 9 + [False])
    >>> paired_permutation_test(first, np.zeros(10, bool))
    0.00390625
    """
    if first.shape != second.shape:
        raise InvalidValue(
            f"The outcomes are of {len(first)} and {len(second)} images; expected the same images."
        )
    from scipy import stats  # slow to import

    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def with_holm(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of tests: of several with "p" each has "p_holm" (:func:`holm`) over "tests" of them.

    >>> with_holm([{"p": 0.25}]), with_holm([{"p": 0.25}, {"p": 0.5}, {}])[0]
    ([{'p': 0.25}], {'p': 0.25, 'p_holm': 0.5, 'tests': 2})
    """
    p_values = [row["p"] for row in rows if "p" in row]
    if len(p_values) < 2:
        return [dict(row) for row in rows]
    adjusted = iter(holm(p_values))
    return [
        {**row, "p_holm": next(adjusted), "tests": len(p_values)} if "p" in row else dict(row)
        for row in rows
    ]
