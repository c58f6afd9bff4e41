"""Average precision of detections: Pascal VOC's two definitions, COCO's, and its uncertainty.

Sources: Everingham et al., "The Pascal Visual Object Classes (VOC) challenge", 2010, section 4.2
(11 points) and the development kit of 2010 and later (area); Lin et al., "Microsoft COCO", 2014,
and the released ``cocoeval`` (101 points, ten thresholds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from coview.evaluation.statistics import WEIGHTED_RESAMPLES, weighted_interval, with_width

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rule = Literal["coco", "voc"]
Interpolation = Literal["11", "101", "area"]

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = {"11": np.arange(11) / 10 - 1e-9, "101": np.linspace(0, 1, 101)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """The detections of one class in all images, the surest first, and whether each is right.

    right, ignored: bool [T, D], at each of T thresholds; ignored detections are neither right nor
    wrong. images: int64 [D], the row of the image of each. objects: int64 [N], the objects that
    count in each image.
    """

    right: Bools
    ignored: Bools
    images: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int64]


def box_iou(boxes: Floats, others: Floats, crowd: Bools | None = None) -> Floats:
    """Intersection over union of boxes (x1, y1, x2, y2): [D, 4], [G, 4] -> [D, G].

    Over the area of the first box alone where ``crowd`` [G] is set, as COCO has it.

    >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(3)
    array([[0.333]])
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    area, other = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others))
    union = area[:, None] + other[None] - shared
    if crowd is not None:
        union = np.where(crowd[None], area[:, None], union)
    ious: Floats = shared / np.maximum(union, 1e-12)
    return ious


def match(
    ious: Floats, ignored: Bools, thresholds: Sequence[float], *, rule: Rule = "coco",
    crowd: Bools | None = None,
) -> tuple[Bools, Bools]:  # fmt: skip
    """Which of D detections of an image and class, the surest first, are right, and which ignored.

    ious [D, G] with the G objects; ignored [G]: objects that do not count; crowd [G]: of these,
    those that any number of detections may match. Returns two bool [T, D].

    rule "voc": a detection belongs to the object that it overlaps most; a second one of an object
    is wrong; to a crowd, which VOC has not, where it reaches no object. rule "coco": to the one
    that it overlaps most of those that are still free.
    """
    crowd = np.zeros(len(ignored), bool) if crowd is None else crowd
    right = np.zeros((len(thresholds), len(ious)), bool)
    skipped = np.zeros_like(right)
    for row, threshold in enumerate(thresholds):
        taken = np.zeros(len(ignored), bool)
        for place, overlaps in enumerate(ious):
            choice = _choose(overlaps, taken, ignored, crowd, threshold, rule)
            if choice < 0:
                continue
            skipped[row, place] = ignored[choice]
            right[row, place] = not ignored[choice] and not taken[choice]
            taken[choice] = True
    return right, skipped


def _choose(
    overlaps: Floats, taken: Bools, ignored: Bools, crowd: Bools, threshold: float, rule: Rule
) -> int:
    """The object that a detection belongs to; -1 for none."""
    if not len(overlaps):
        return -1
    if rule == "voc":
        # Of a crowd the overlap is over the detection's own area, and so above that of an object.
        for kind in (~crowd, crowd):
            if kind.any():
                best = int(np.where(kind, overlaps, -1).argmax())
                if overlaps[best] >= threshold:
                    return best
        return -1
    free = (overlaps >= min(threshold, 1 - 1e-10)) & (~taken | crowd)
    for kind in (~ignored, ignored):  # an object that counts comes before one that does not
        choices = np.flatnonzero(free & kind)
        if len(choices):
            tied = choices[overlaps[choices] == overlaps[choices].max()]
            return int(tied[-1])  # COCO's loop takes the last of equals
    return -1


def average_precision(
    matched: Matched,
    interpolation: Interpolation = "101",
    weights: Floats | None = None,
) -> Floats:
    """The average precision of a class at each threshold, float64 [T]; NaN without any object.

    interpolation: the mean over 11 or 101 recalls of the best precision at that recall or beyond,
    or the "area" under that curve. weights [N]: how often each image counts, by default once.

    >>> one = Matched(right=np.array([[True, False]]), ignored=np.zeros((1, 2), bool),
    ...     images=np.array([0, 0]), objects=np.array([2]))
    >>> average_precision(one, "area")
    array([0.5])
    """
    weights = np.ones(len(matched.objects)) if weights is None else weights
    total = float((weights * matched.objects).sum())
    if total == 0:
        return np.full(len(matched.right), np.nan)
    weight = weights[matched.images]
    right = np.cumsum(weight * matched.right, axis=1)
    wrong = np.cumsum(weight * ~(matched.right | matched.ignored), axis=1)
    precision = right / np.maximum(right + wrong, np.finfo(float).eps)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / total
    if interpolation == "area":
        steps = np.diff(recall, axis=1, prepend=0)
        area: Floats = (steps * best).sum(1)
        return area
    return mean_at_recalls(best, recall, interpolation)


def mean_at_recalls(best: Floats, recall: Floats, points: Literal["11", "101"]) -> Floats:
    """The mean of the best precision at 11 or 101 recalls from 0 to 1: [T, D], [T, D] -> [T].

    Of 11 points, a recall that is equal to one reaches it, as it does by hand: 3 of 10 objects
    reach 0.3, which rounding would deny. The 101 points are COCO's, compared as its package does.

    >>> mean_at_recalls(np.array([[1.0, 0.5]]), np.array([[0.3, 1.0]]), "11").round(4)
    array([0.6818])
    """
    wanted = RECALLS[points]
    padded = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    places = [np.searchsorted(row, wanted, side="left") for row in recall]
    return np.array([row[place].mean() for row, place in zip(padded, places, strict=True)])


def mean_over_classes(
    classes: Sequence[Matched], interpolation: Interpolation = "101",
    weights: Floats | None = None,
) -> Floats:  # fmt: skip
    """The mean of :func:`average_precision` over the classes that have objects, [T]; else NaN."""
    each = [average_precision(one, interpolation, weights) for one in classes]
    known = [value for value in each if not np.isnan(value).all()]
    return np.mean(known, axis=0) if known else np.full(len(classes[0].right), np.nan)


def bootstrap_interval(
    classes: Sequence[Matched], images: int, *, rows: slice = slice(None),
    interpolation: Interpolation = "101", seed: int = 0,
    resamples: int = WEIGHTED_RESAMPLES,
) -> tuple[float, float]:  # fmt: skip
    """The 95 % interval of the mean over classes and over the thresholds in ``rows``.

    The images are drawn again with replacement (percentile bootstrap; Efron 1979), which leaves out
    what another training would change. Where all draws give one value, it is Wilson's of so many
    images.
    """
    kept = [_at(one, rows) for one in classes]
    interval = weighted_interval(
        lambda weights: float(mean_over_classes(kept, interpolation, weights).mean()), images,
        part="bootstrap of detection", seed=seed, resamples=resamples,
    )  # fmt: skip
    return (0.0, 1.0) if np.isnan(interval[0]) else with_width(interval, images)


def _at(one: Matched, rows: slice) -> Matched:
    return Matched(
        right=one.right[rows], ignored=one.ignored[rows], images=one.images, objects=one.objects
    )
