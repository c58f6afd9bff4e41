"""PASCAL VOC's mean average precision at 11 recalls, for images with several labels.

A store has one label for an image. Several are one class whose name joins them: "dog+person". A
word with a question mark, "dog+person?", is of an image that does not count for it: VOC's difficult
objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coview.core.images import ImageStore
from coview.evaluation.average_precision import mean_at_recalls


def label_table(store: ImageStore, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Which images have which of ``names``: int8 [N, C], 1, 0, or -1 where it does not count.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((2, 2, 2, 3), np.uint8), labels=np.array([0, 1]),
    ...     class_names=("dog+person?", "person"))
    >>> label_table(store, ["dog", "person"]).tolist()
    [[1, -1], [0, 1]]
    """
    assert store.labels is not None
    of_class = np.zeros((len(store.class_names), len(names)), np.int8)
    for row, name in enumerate(store.class_names):
        words = name.split("+")
        for column, label in enumerate(names):
            of_class[row, column] = 1 if label in words else -1 if f"{label}?" in words else 0
    return of_class[store.labels]


def eleven_point_map(scores: npt.NDArray[np.float64], relevant: npt.NDArray[np.int8]) -> float:
    """Mean over classes of the mean over recalls 0, 0.1 ... 1 of the highest precision from there.

    A class without a relevant image is left out; NaN if all are. Of equal scores an image without
    the class comes first. Shapes: scores [N, C], relevant int8 [N, C] as of :func:`label_table`.
    Source: Everingham et al., "The PASCAL visual object
    classes (VOC) challenge", 2010, section 4.2.

    >>> scores, relevant = np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]], np.int8)
    >>> round(eleven_point_map(scores, relevant), 4)
    0.8485
    """
    values = []
    for column in range(scores.shape[1]):
        counted = relevant[:, column] >= 0
        truth = relevant[counted, column] == 1
        if truth.any():
            order = np.lexsort((truth, -scores[counted, column]))
            values.append(_eleven_points(truth[order]))
    return float(np.mean(values)) if values else float("nan")


def _eleven_points(ranked: npt.NDArray[np.bool_]) -> float:
    """Of relevance in the order of the ranking, bool [N] with at least one."""
    hits = np.cumsum(ranked)
    precision = hits / np.arange(1, len(ranked) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(mean_at_recalls(highest[None], (hits / hits[-1])[None], "11")[0])
