"""Detections beside the annotated objects: COCO's and VOC's figures, and COCO's file of results."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import MissingExtra
from coview.data.annotations import AnnotatedStore, Objects
from coview.evaluation.average_precision import (
    COCO_THRESHOLDS,
    Bools,
    Floats,
    Matched,
    Rule,
    box_iou,
    match,
)

MAX_DETECTIONS = 100
"""Of an image and class, as COCO counts them."""
OUTSIDE_AREA = -1.0
"""In no range of areas: COCO's evaluation ignores an object of this area, and one detection of it.
As a crowd the object would excuse any number of detections, small parts of it too."""
COCO_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detected:
    """What was detected in an image, the surest first.

    Shapes: boxes float64 [D, 4], (x1, y1, x2, y2) in pixels of the annotated image; scores float64
    [D] in [0, 1]; classes int64 [D]; outlines: an RLE in COCO's format of each, or () for boxes.
    """

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]
    outlines: Sequence[dict[str, Any]] = field(default=())


def match_boxes(
    found: Sequence[Detected], objects: Objects, classes: int, *, rule: Rule,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> list[Matched]:  # fmt: skip
    """The detections of each class, matched with the objects of the same image and class.

    Difficult objects and crowds do not count. rule: see :func:`match`.
    """

    def of_image(row: int, places: npt.NDArray[np.int64], own: npt.NDArray[np.int64]) -> Floats:
        return box_iou(found[row].boxes[places], objects.boxes[own], objects.crowd[own])

    return match_classes(found, objects, classes, of_image, rule=rule, thresholds=thresholds)


def match_classes(
    found: Sequence[Detected], objects: Objects, classes: int,
    ious: Callable[[int, npt.NDArray[np.int64], npt.NDArray[np.int64]], Floats], *, rule: Rule,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> list[Matched]:  # fmt: skip
    """As :func:`match_boxes`, by ``ious(image, detections, objects)`` [D, G]."""
    right: list[list[Bools]] = [[] for _ in range(classes)]
    skipped: list[list[Bools]] = [[] for _ in range(classes)]
    scores: list[list[Floats]] = [[] for _ in range(classes)]
    images: list[list[int]] = [[] for _ in range(classes)]
    counted = np.zeros((classes, len(objects)), np.int64)
    for row, detected in enumerate(found):
        own = np.arange(objects.of(row).start, objects.of(row).stop)
        ignored = objects.crowd[own] | objects.difficult[own]
        np.add.at(counted[:, row], objects.classes[own[~ignored]], 1)
        for number in np.unique(detected.classes):
            places = np.flatnonzero(detected.classes == number)[:MAX_DETECTIONS]
            mine = objects.classes[own] == number
            hits, skips = match(
                ious(row, places, own[mine]), ignored[mine], thresholds, rule=rule,
                crowd=objects.crowd[own[mine]],
            )  # fmt: skip
            right[number].append(hits)
            skipped[number].append(skips)
            scores[number].append(detected.scores[places])
            images[number].extend([row] * len(places))
    return [
        _in_order(right[k], skipped[k], scores[k], images[k], counted[k], len(thresholds))
        for k in range(classes)
    ]


def _in_order(
    right: list[Bools], skipped: list[Bools], scores: list[Floats], images: list[int],
    objects: npt.NDArray[np.int64], thresholds: int,
) -> Matched:  # fmt: skip
    empty = np.zeros((thresholds, 0), bool)
    order = np.argsort(-np.concatenate([*scores, np.zeros(0)]), kind="stable")
    return Matched(
        right=np.concatenate([*right, empty], axis=1)[:, order],
        ignored=np.concatenate([*skipped, empty], axis=1)[:, order],
        images=np.array(images, np.int64)[order], objects=objects,
    )  # fmt: skip


def coco_results(found: Sequence[Detected], objects: Objects) -> list[dict[str, Any]]:
    """The detections as COCO's results: one entry each, with a box and perhaps an outline."""
    entries = []
    for row, detected in enumerate(found):
        for place in range(len(detected.scores)):
            x1, y1, x2, y2 = detected.boxes[place].tolist()
            entry = {
                "image_id": int(objects.numbers[row]),
                "category_id": int(objects.categories[detected.classes[place]]),
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(detected.scores[place]), 6),
            }
            if detected.outlines:
                entry["segmentation"] = detected.outlines[place]
            entries.append(entry)
    return entries


def coco_ground_truth(store: AnnotatedStore) -> dict[str, Any]:
    """The objects of a store in COCO's format; the area of difficult ones is ``OUTSIDE_AREA``."""
    objects = store.objects
    annotations: list[dict[str, Any]] = []
    for row in range(len(objects)):
        for place in range(objects.of(row).start, objects.of(row).stop):
            x1, y1, x2, y2 = objects.boxes[place].tolist()
            ignored = bool(objects.difficult[place] and not objects.crowd[place])
            entry: dict[str, Any] = {
                "id": len(annotations) + 1, "image_id": int(objects.numbers[row]),
                "category_id": int(objects.categories[objects.classes[place]]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": OUTSIDE_AREA if ignored else float(objects.areas[place]),
                "iscrowd": int(objects.crowd[place]),
            }  # fmt: skip
            if objects.outlines and objects.outlines[place] is not None:
                entry["segmentation"] = objects.outlines[place]
            annotations.append(entry)
    images = [
        {"id": int(n), "height": int(h), "width": int(w), "file_name": name}
        for n, h, w, name in zip(
            objects.numbers, objects.heights, objects.widths, store.names, strict=True
        )
    ]
    names = zip(objects.categories, store.class_names, strict=True)
    categories = [{"id": int(number), "name": name} for number, name in names]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_figures(
    results: list[dict[str, Any]], truth: dict[str, Any], kind: str
) -> tuple[dict[str, float], Floats]:
    """AP, AP50, AP75 and AP of small, medium and large objects, and the AP of each class [K].

    results, truth: as :func:`coco_results` and :func:`coco_ground_truth` give them. kind: "bbox" or
    "segm". A figure without any object is NaN. Computed by faster-coco-eval or pycocotools.
    Raises MissingExtra where neither is installed.
    """
    classes = len(truth["categories"])
    counts = any(
        not item["iscrowd"] and item["area"] != OUTSIDE_AREA for item in truth["annotations"]
    )
    if not results or not counts:
        value = 0.0 if counts else np.nan
        return dict.fromkeys(COCO_FIGURES, value), np.full(classes, value)
    COCO, COCOeval = coco_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        entries = [dict(entry) for entry in results]
        if kind == "segm":  # loadRes takes the area of a box where one is there
            entries = [{k: v for k, v in entry.items() if k != "bbox"} for entry in entries]
        judge = COCOeval(gt, gt.loadRes(entries), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    figures = {name: float(value) for name, value in zip(COCO_FIGURES, judge.stats, strict=False)}
    figures = {name: value if value >= 0 else np.nan for name, value in figures.items()}
    # Axes: thresholds, recalls, classes in the order of their numbers, areas, limits.
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, -1]
    values = np.array([p[p > -1].mean() if (p > -1).any() else np.nan
                       for p in np.moveaxis(precision, 2, 0)])  # fmt: skip
    order = np.argsort(np.argsort([category["id"] for category in truth["categories"]]))
    return figures, values[order]


def coco_classes() -> tuple[Any, Any]:
    """(COCO, COCOeval) of the installed package. Raises MissingExtra."""
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    try:
        from pycocotools.coco import COCO as PlainCOCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtra(
            "faster-coco-eval", "detection", "The average precision of COCO"
        ) from None
    return PlainCOCO, COCOeval
