"""The figures of an ended run of detection, beside the same network from scratch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coview import evaluation
from coview.core.errors import DamagedFile
from coview.core.files import parse_json, read_content, write_json, write_text
from coview.data.annotations import AnnotatedStore, Objects
from coview.data.outlines import decode_rle, fill_outline
from coview.dense.learner import DenseLearner, DetectionLearner, SegmentationLearner
from coview.diagnosis.detecting import (
    Judged,
    detect_images,
    detected_of,
    diagnose_detection,
    quick_figure,
    sample,
    segment_images,
)
from coview.diagnosis.object_pictures import write_found, write_segmented
from coview.diagnosis.state import Diagnosis
from coview.evaluation.average_precision import (
    Floats,
    Matched,
    bootstrap_interval,
    mean_over_classes,
)
from coview.evaluation.detections import (
    Detected,
    coco_figures,
    coco_ground_truth,
    coco_results,
    match_boxes,
    match_classes,
)
from coview.evaluation.segmentation import PixelCounts, class_ious, iou_interval, mean_iou
from coview.evaluation.statistics import WEIGHTED_RESAMPLES, weighted_interval
from coview.recipes import DenseRecipe
from coview.runs.job import Parts
from coview.runs.run import Run

TUNED, SCRATCH = "fine-tuned", "from scratch"
PROTOCOL = "detect"
DIFFERENCE = "bootstrap of a difference"
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "AP50": {
        "title": "Detection", "question": "Which objects of the test images are detected?",
        "headline": {"metric": "AP50", "layer": "boxes"}, "axis": "",
    },
    "mIoU": {
        "title": "Segmentation", "question": "Which pixels of the test images get their class?",
        "headline": {"metric": "mIoU", "layer": "pixels"}, "axis": "",
    },
}  # fmt: skip
"""What evaluation/detect.json says of itself, by the figure that heads it."""
AT_50, AT_75 = slice(0, 1), slice(5, 6)


def judge(run: Run, learner: DenseLearner, parts: Parts, baseline: Run | None) -> Diagnosis:
    """Write evaluation/detect.json, the detections and their picture; returns the diagnosis.

    ``baseline``: the same network from scratch, an ended run; None compares with nothing.
    """
    recipe, test, training = run.recipe, parts.held_out, parts.training
    assert isinstance(recipe, DenseRecipe)
    assert isinstance(test, AnnotatedStore)
    assert isinstance(training, AnnotatedStore)
    train_value = quick_figure(learner, sample(training, recipe.seed), recipe)
    if isinstance(learner, DetectionLearner):
        found = detect_images(learner, test, recipe)
        write_text(run.detected_path, json.dumps(coco_results(found, test.objects)))
        write_json(run.true_objects_path, coco_ground_truth(test))
        write_found(run.found_path, test, found)
        judged = judge_boxes(run, found, test, train_value, baseline)
    else:
        assert isinstance(learner, SegmentationLearner)
        counts, maps = segment_images(learner, test)
        write_segmented(run.found_path, test, maps, recipe.method.classes)
        judged = judge_pixels(run, counts, test, train_value, baseline)
    return diagnose_detection(judged, step=run.total_steps)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """A network's detections in the test images, matched with the objects by both rules."""

    name: str
    found: Sequence[Detected]
    coco: list[Matched]
    voc: list[Matched]

    @classmethod
    def of(cls, name: str, found: Sequence[Detected], store: AnnotatedStore) -> Contender:
        classes, objects = len(store.class_names), store.objects
        return cls(
            name=name, found=found, coco=match_boxes(found, objects, classes, rule="coco"),
            voc=match_boxes(found, objects, classes, rule="voc", thresholds=(0.5,)),
        )  # fmt: skip


def judge_boxes(
    run: Run, found: Sequence[Detected], store: AnnotatedStore, train_value: float,
    baseline: Run | None,
) -> Judged:  # fmt: skip
    """Write the results of a detector; its figure is AP50."""
    contenders = [Contender.of(TUNED, found, store)]
    if baseline is not None:
        entries = read_entries(baseline)
        contenders.append(Contender.of(SCRATCH, detected_of(entries, store.objects), store))
    card = _card(run, "boxes of COCO's and VOC's evaluations; the last step counts")
    results: list[evaluation.Result] = []
    more: dict[str, Any] = {"classes": list(store.class_names), "training": {"AP50": train_value}}
    truth = coco_ground_truth(store)
    for each in contenders:
        results += box_results(each, store, truth, card, more)
    evaluation.write_results(
        run.evaluation_path, results, data=run.tested_data, more=more,
        descriptions={PROTOCOL: DESCRIPTIONS["AP50"]},
    )  # fmt: skip
    values = [float(np.nan_to_num(mean_over_classes(each.coco)[0])) for each in contenders]
    difference = None
    if len(contenders) == 2:
        difference = difference_interval(contenders[0].coco, contenders[1].coco, len(store))
    return Judged(
        figure="AP50", value=values[0], train_value=train_value, chance=0.0, images=len(store),
        scratch=values[1] if len(values) == 2 else None, difference=difference,
    )  # fmt: skip


def box_results(
    each: Contender, store: AnnotatedStore, truth: dict[str, Any], card: dict[str, Any],
    more: dict[str, Any],
) -> list[evaluation.Result]:  # fmt: skip
    """The results of one network; its figures by size and class go to ``more``."""
    entries, images = coco_results(each.found, store.objects), len(store)
    kinds = [("boxes", "bbox", each.coco)]
    if any("segmentation" in entry for entry in entries):
        kinds.append(("outlines", "segm", match_outlines(each.found, store)))
    results = []
    for layer, kind, matched in kinds:
        figures, by_class = coco_figures(entries, truth, kind)
        for metric, rows in (("AP", slice(None)), ("AP50", AT_50), ("AP75", AT_75)):
            interval = bootstrap_interval(matched, images, rows=rows)
            results.append(
                _result(each.name, layer, metric, figures[metric], interval, images, card)
            )
        by_size = {name: _plain(figures[name]) for name in ("APs", "APm", "APl")}
        more[f"{layer} {each.name}"] = {
            "by_size": by_size, "by_class": [_plain(value) for value in by_class],
        }  # fmt: skip
    for metric, name in (("VOC AP50, 11 points", "11"), ("VOC AP50, area", "area")):
        value = float(mean_over_classes(each.voc, name)[0])  # type: ignore[arg-type]
        interval = bootstrap_interval(each.voc, images, interpolation=name)  # type: ignore[arg-type]
        results.append(_result(each.name, "boxes", metric, value, interval, images, card))
    return results


def match_outlines(found: Sequence[Detected], store: AnnotatedStore) -> list[Matched]:
    """As ``match_boxes``, by the pixels of the outlines."""
    objects = store.objects

    def of_image(row: int, places: npt.NDArray[np.int64], own: npt.NDArray[np.int64]) -> Floats:
        predicted = [decode_rle(found[row].outlines[int(place)]) for place in places]
        true = [_pixels(objects, row, int(number)) for number in own]
        return mask_iou(predicted, true, objects.crowd[own])

    return match_classes(found, objects, len(store.class_names), of_image, rule="coco")


def mask_iou(
    predicted: Sequence[npt.NDArray[np.uint8]], true: Sequence[npt.NDArray[np.uint8]],
    crowd: npt.NDArray[np.bool_],
) -> Floats:  # fmt: skip
    """Intersection over union of masks, [D, G]; over the first alone where ``crowd`` is set."""
    if not predicted or not true:
        return np.zeros((len(predicted), len(true)))
    a, b = (np.stack([mask.ravel() for mask in masks]).astype(np.float32)
            for masks in (predicted, true))  # fmt: skip
    shared = a @ b.T
    union = np.where(crowd[None], a.sum(1)[:, None], a.sum(1)[:, None] + b.sum(1)[None] - shared)
    ious: Floats = (shared / np.maximum(union, 1)).astype(np.float64)
    return ious


def judge_pixels(
    run: Run, counts: PixelCounts, store: AnnotatedStore, train_value: float, baseline: Run | None
) -> Judged:
    """Write the results of a segmenter; its figure is the mean IoU."""
    contenders = [(TUNED, counts)]
    if baseline is not None:
        saved = read_json(baseline, "counts")
        contenders.append((SCRATCH, PixelCounts(**{k: np.array(v) for k, v in saved.items()})))
    card = _card(run, "mean IoU over the pixels of all test images; the last step counts")
    images, names = len(store), list(store.class_names)
    more: dict[str, Any] = {
        "classes": names, "training": {"mIoU": train_value},
        "counts": {key: getattr(counts, key).tolist() for key in ("right", "predicted", "true")},
    }  # fmt: skip
    results = []
    for name, each in contenders:
        results.append(
            _result(name, "pixels", "mIoU", mean_iou(each), iou_interval(each), images, card)
        )
        more[f"pixels {name}"] = {"by_class": [_plain(value) for value in class_ious(each)]}
    evaluation.write_results(
        run.evaluation_path, results, data=run.tested_data, more=more,
        descriptions={PROTOCOL: DESCRIPTIONS["mIoU"]},
    )  # fmt: skip
    # A network that names the most frequent class everywhere.
    true = counts.true.sum(0)
    chance = float(true.max() / max(true.sum(), 1) / max((true > 0).sum(), 1))
    difference = None
    if len(contenders) == 2:
        difference = weighted_interval(
            lambda weights: mean_iou(counts, weights) - mean_iou(contenders[1][1], weights), images,
            part=DIFFERENCE,
        )  # fmt: skip
    return Judged(
        figure="mIoU", value=mean_iou(counts), train_value=train_value, chance=chance,
        images=images, scratch=mean_iou(contenders[1][1]) if len(contenders) == 2 else None,
        difference=difference,
    )  # fmt: skip


def difference_interval(
    one: list[Matched], other: list[Matched], images: int
) -> tuple[float, float]:
    """The 95 % interval of the difference in AP50, both on the same drawn images."""
    one, other = ([_at_50(matched) for matched in each] for each in (one, other))

    def difference(weights: Floats) -> float:
        values = [
            np.nan_to_num(mean_over_classes(each, weights=weights)[0]) for each in (one, other)
        ]
        return float(values[0] - values[1])

    return weighted_interval(difference, images, part=DIFFERENCE)


def _at_50(matched: Matched) -> Matched:
    return Matched(
        right=matched.right[AT_50], ignored=matched.ignored[AT_50], images=matched.images,
        objects=matched.objects,
    )  # fmt: skip


def _pixels(objects: Objects, row: int, number: int) -> npt.NDArray[np.uint8]:
    size = int(objects.heights[row]), int(objects.widths[row])
    outline = objects.outlines[number] if objects.outlines else None
    return fill_outline(outline, size, size)


def _result(
    subject: str, layer: str, metric: str, value: float, interval: tuple[float, float], images: int,
    card: dict[str, Any],
) -> evaluation.Result:  # fmt: skip
    low, high = interval
    return evaluation.Result(
        protocol=PROTOCOL, subject=subject, layer=layer, metric=metric, value=value,
        interval=(min(low, value), max(high, value)), test_images=images, setting={}, card=card,
    )  # fmt: skip


def _card(run: Run, figures: str) -> dict[str, Any]:
    return {
        "figures": figures,
        "seed": run.recipe.seed,
        "selection": "none: the last step counts",
        "intervals": f"95 %, {WEIGHTED_RESAMPLES} draws of the test images with replacement, "
        "widened to hold the value",
        TUNED: "the whole network, the encoder from the start" if run.start else
        "the whole network, from random weights",
        SCRATCH: "the same network, recipe and images, from random weights",
        "recipe_hash": run.description["hash"],
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def read_entries(run: Run) -> list[dict[str, Any]]:
    """The detections that a run has written. Raises DamagedFile."""
    content = read_content(run.detected_path)
    entries = [] if content is None else parse_json(content, run.detected_path)
    if not isinstance(entries, list):
        raise DamagedFile(f"{run.detected_path} should hold a list of detections.")
    return entries


def read_json(run: Run, key: str) -> dict[str, Any]:
    """A field of evaluation/detect.json. Raises DamagedFile."""
    for content in run.evaluations:
        if content.get("protocol") == PROTOCOL and isinstance(content.get(key), dict):
            field: dict[str, Any] = content[key]
            return field
    raise DamagedFile(f"{run.path} has no evaluation with `{key}`.")
