"""Mean intersection over union of label maps, and its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coview.data.annotations import UNKNOWN
from coview.evaluation.statistics import weighted_interval, with_width

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelCounts:
    """Pixels of each image and class, int64 [N, K]: right, predicted as it, and truly of it.

    Pixels of no class (255) do not count.
    """

    right: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]


def count_pixels(
    predicted: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8], classes: int
) -> tuple[npt.NDArray[np.int64], ...]:
    """(right, predicted, true) of one image, int64 [K] each.

    >>> count_pixels(np.array([0, 1, 1], np.uint8), np.array([0, 0, 255], np.uint8), 2)
    (array([1, 0]), array([1, 1]), array([2, 0]))
    """
    known = true != UNKNOWN
    mine, truth = predicted[known], true[known]
    return tuple(
        np.bincount(values, minlength=classes)[:classes].astype(np.int64)
        for values in (truth[mine == truth], mine, truth)
    )


def class_ious(counts: PixelCounts, weights: Floats | None = None) -> Floats:
    """The intersection over union of each class over all images, [K]; NaN for an absent class.

    weights [N]: how often each image counts.
    """
    weights = np.ones(len(counts.right)) if weights is None else weights
    right, predicted, true = (weights @ c for c in (counts.right, counts.predicted, counts.true))
    union = predicted + true - right
    ious: Floats = np.where(union > 0, right / np.maximum(union, 1), np.nan)
    return ious


def mean_iou(counts: PixelCounts, weights: Floats | None = None) -> float:
    """The mean of :func:`class_ious` over the classes that are there or are predicted."""
    ious = class_ious(counts, weights)
    return float(np.nanmean(ious)) if not np.isnan(ious).all() else float("nan")


def iou_interval(counts: PixelCounts, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean over classes: percentile bootstrap over the images.

    Wilson's of so many images where all draws give one value.
    """
    images = len(counts.right)
    interval = weighted_interval(
        lambda weights: mean_iou(counts, weights), images, part="bootstrap of segmentation",
        seed=seed,
    )  # fmt: skip
    return with_width(interval, images)
