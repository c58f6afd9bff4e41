"""Calibration: is the confidence of a classifier its accuracy?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coview.core.errors import InvalidValue

BINS = 15

Floats = npt.NDArray[np.float64]


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = BINS
) -> float:
    """The mean distance between confidence and accuracy over bins of equal width.

    ECE = sum over bins b of |B_b| / N times |accuracy of B_b - mean confidence of B_b|; a bin holds
    its upper end. Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian
    binning", 2015; Guo et al., "On calibration of modern neural networks", 2017, equation 3.

    A benchmark sums :func:`calibration_gaps` of drawn images; tests compare it with this.

    Shapes: confidence [N] in [0, 1], the probability of the predicted class; correct [N], 0 or 1.
    Raises InvalidValue for other numbers.

    >>> round(expected_calibration_error([0.9, 0.9, 0.6], [1, 0, 1]), 3)
    0.4
    """
    gaps = calibration_gaps(confidence, correct, bins=bins)
    return error_of_gaps(gaps, len(gaps))


def calibration_gaps(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = BINS
) -> Floats:
    """Correct minus confidence of each image, in the column of its bin: [N, bins].

    Sums of rows give the error of any selection of images, which the bootstrap needs.
    """
    shares = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    valid = shares.ndim == 1 and shares.shape == right.shape and len(shares) > 0 and bins >= 1
    if not (valid and shares.min() >= 0 and shares.max() <= 1):
        raise InvalidValue(
            f"`confidence` is {list(shares.shape)}, `correct` {list(right.shape)} and `bins` "
            f"{bins}; expected two lists of one length, confidences in [0, 1], at least one bin."
        )
    column = np.clip(np.ceil(shares * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.zeros((len(shares), bins))
    gaps[np.arange(len(shares)), column] = right - shares
    return gaps


def error_of_gaps(gaps: Floats, predictions: int) -> float:
    """The calibration error of ``predictions`` predictions whose gaps are in the rows."""
    return float(np.abs(gaps.sum(axis=0)).sum() / predictions)


def confidence_of(logits: Tensor) -> Floats:
    """The highest softmax probability of each row: [N, C] -> [N]."""
    highest = torch.softmax(logits.double(), dim=1).amax(1).cpu().numpy()
    confidence: Floats = np.minimum(highest, 1.0)
    return confidence
