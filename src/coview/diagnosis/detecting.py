"""What a detector or a segmenter finds in images, during the run and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from coview.core.memory import LESS, PartSize, fitting
from coview.core.metrics import FEW_TEST_IMAGES
from coview.core.progress import progress
from coview.core.rng import DETECTION_IMAGES, Stream, permutation
from coview.core.text import plural
from coview.data.annotations import AnnotatedStore, Objects
from coview.data.outlines import encode_rle
from coview.dense.detector import Targets
from coview.dense.inputs import (
    images_of,
    label_map,
    normalize,
    pad_together,
    render_test_images,
    resize,
)
from coview.dense.learner import DetectionLearner, SegmentationLearner
from coview.diagnosis.evidence import MORE_TEST_IMAGES, undecided
from coview.diagnosis.state import Diagnosis
from coview.evaluation.average_precision import mean_over_classes
from coview.evaluation.detections import Detected, match_boxes
from coview.evaluation.segmentation import PixelCounts, count_pixels, mean_iou
from coview.methods.learner import NetworkTask
from coview.planning.defaults import MIN_STEPS
from coview.recipes import DenseRecipe
from coview.training import MetricsLog

BATCH = 4
MAX_REPORTS, SAMPLED_IMAGES = 8, 200
LITTLE = 0.02
"""Below this AP50 nothing is found; for label maps, above the share of the most frequent class."""

Rows = npt.NDArray[np.int64]


def detect_images(
    learner: DetectionLearner, store: AnnotatedStore, recipe: DenseRecipe, *, label: str = ""
) -> list[Detected]:
    """The boxes (and outlines) in every image of ``store``, in pixels of the annotated images.

    Four images are padded together; where they do not fit into memory, fewer of them, padded as
    before, are computed at a time. Raises DoesNotFit.
    """
    objects, method, found = store.objects, learner.method, []
    at_once = PartSize(BATCH, device=next(learner.parameters()).device)
    with progress(label or "Detecting", len(store)) as advance:
        for first in range(0, len(store), BATCH):
            rows = np.arange(first, min(first + BATCH, len(store)))
            annotated = [(int(objects.heights[row]), int(objects.widths[row])) for row in rows]
            images, sizes = render_test_images(store, rows, method, annotated)
            targets = _detect_in_parts(learner, images, sizes, at_once)
            for target, size, whole in zip(targets, sizes, annotated, strict=True):
                found.append(_detected(target, size, whole))
            advance(len(rows), "", len(store) - first - len(rows))
    return found


def _detect_in_parts(
    learner: DetectionLearner, images: torch.Tensor, sizes: list[tuple[int, int]],
    at_once: PartSize,
) -> Targets:  # fmt: skip
    parts = at_once.map(lambda part: learner.detect(images[part], sizes[part]), len(images))
    return [target for part in parts for target in part]


def _detected(
    target: Mapping[str, torch.Tensor], size: tuple[int, int], annotated: tuple[int, int]
) -> Detected:
    """What torchvision gives, in the annotated image and without its background class."""
    # First to the CPU: a Mac's GPU has no float64.
    height, width = (whole / part for whole, part in zip(annotated, size, strict=True))
    boxes = target["boxes"].cpu().double() * torch.tensor([width, height, width, height])
    outlines: list[dict[str, Any]] = []
    if "masks" in target and len(boxes):
        pasted = paste_masks_in_image(target["masks"].float().cpu(), boxes.float(), annotated)
        outlines = [encode_rle((mask[0] >= 0.5).numpy()) for mask in pasted]
    return Detected(
        boxes=boxes.numpy(), scores=target["scores"].cpu().double().numpy(),
        classes=target["labels"].cpu().numpy() - 1, outlines=outlines,
    )  # fmt: skip


def segment_images(
    learner: SegmentationLearner, store: AnnotatedStore, *, label: str = ""
) -> tuple[PixelCounts, list[npt.NDArray[np.uint8]]]:
    """The pixels of each class of every image at its own size, and the first maps.

    An image is tested with its long side at the side of the training squares. Raises DoesNotFit.
    """
    method, counts = learner.method, []
    maps: list[npt.NDArray[np.uint8]] = []
    device = next(learner.parameters()).device
    with progress(label or "Segmenting", len(store)) as advance:
        for row in range(len(store)):
            truth = label_map(store, row, method.classes)
            with fitting("One image does", device, LESS):
                predicted = segment_image(learner, store, row, truth.shape)
            counts.append(count_pixels(predicted, truth, method.classes))
            if len(maps) < SAMPLED_IMAGES:
                maps.append(predicted)
            advance(1, "", len(store) - row - 1)
    right, predicted_, true = (np.stack(column) for column in zip(*counts, strict=True))
    return PixelCounts(right=right, predicted=predicted_, true=true), maps


@torch.no_grad()
def segment_image(
    learner: SegmentationLearner, store: AnnotatedStore, row: int, shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """The class of each pixel [height, width] of an image at the size of its label map."""
    view, device = learner.method.view, next(learner.parameters()).device
    factor = view.size / max(shape)
    size = [max(1, round(n * factor)) for n in shape]
    image = normalize(resize(images_of(store, np.array([row]))[0], size), view)
    logits = learner.segment(pad_together([image]).to(device))[:, :, : size[0], : size[1]]
    logits = F.interpolate(logits, tuple(shape), mode="bilinear", align_corners=False)
    classes: npt.NDArray[np.uint8] = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
    return classes


class DetectionMonitor:
    """Writes "validation" lines: AP50 (or the mean IoU) of test and of training images.

    The samples are fixed, at most 200 images of each; nothing is selected by these figures.
    """

    def __init__(
        self, learner: NetworkTask, recipe: DenseRecipe, training: AnnotatedStore,
        held_out: AnnotatedStore, metrics_log: MetricsLog,
    ) -> None:  # fmt: skip
        self.learner, self.recipe, self.metrics_log = learner, recipe, metrics_log
        self.training = sample(training, recipe.seed)
        self.held_out = sample(held_out, recipe.seed)
        self.steps_per_epoch = recipe.steps_per_epoch(len(training))
        total = recipe.total_steps(len(training))
        self.every = -(-max(1, total // max(1, self.steps_per_epoch)) // MAX_REPORTS)

    def __call__(self, step: int, last: bool = False) -> bool:
        """After ``step`` steps, at the end of an epoch or the run. Returns whether it measured."""
        if step == 0 or (not last and (step // self.steps_per_epoch) % self.every):
            return False
        name = "AP50" if isinstance(self.learner, DetectionLearner) else "mIoU"
        value, train_value = (
            quick_figure(self.learner, store, self.recipe)
            for store in (self.held_out, self.training)
        )
        self.metrics_log.write(
            "validation", step, epoch=step / self.steps_per_epoch, figure=name, value=value,
            train_value=train_value, images=len(self.held_out),
        )  # fmt: skip
        return True


def quick_figure(learner: NetworkTask, store: AnnotatedStore, recipe: DenseRecipe) -> float:
    """The mean AP of boxes at IoU 0.5 (COCO's 101 points), or the mean IoU of pixels."""
    if isinstance(learner, DetectionLearner):
        found = detect_images(learner, store, recipe)
        classes = match_boxes(
            found, store.objects, len(store.class_names), rule="coco", thresholds=(0.5,)
        )
        return float(np.nan_to_num(mean_over_classes(classes)[0]))
    assert isinstance(learner, SegmentationLearner)
    return float(np.nan_to_num(mean_iou(segment_images(learner, store)[0])))


def sample(store: AnnotatedStore, seed: int, limit: int = SAMPLED_IMAGES) -> AnnotatedStore:
    """At most ``limit`` images, the same every time."""
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=DETECTION_IMAGES)[:limit]
    return store.subset(np.sort(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The figure by which a run is judged, of test and training images, beside that from scratch.

    figure: its name, "AP50" or "mIoU". chance: what finding nothing gives. difference: the 95 %
    interval of the difference to the network from scratch; None without that.
    """

    figure: str
    value: float
    train_value: float
    chance: float
    images: int
    scratch: float | None = None
    difference: tuple[float, float] | None = None


def diagnose_detection(judged: Judged, *, step: int) -> Diagnosis:
    """The diagnosis of an ended run.

    The first of these that holds: too early, at chance (the training images are not learned
    either), overfitted (they are, and nothing is found in test images), no better than from
    scratch; else learned. Of fewer than FEW_TEST_IMAGES draws of the images hold a few of them, so
    that the interval of the difference is too narrow: then it decides nothing.
    """
    words = f"{judged.figure} {percent(judged.value)} on {plural(judged.images, 'test image')}"
    train = f"{percent(judged.train_value)} on training images"
    difference = judged.difference if judged.images >= FEW_TEST_IMAGES else None
    if judged.scratch is not None and judged.difference is not None and difference is None:
        words += (
            f" (from scratch {percent(judged.scratch)}; which of the two is better is not judged "
            f"on fewer than {FEW_TEST_IMAGES} test images)"
        )
    elif judged.scratch is not None and difference is not None:
        low, high = (100 * bound for bound in difference)
        words += (
            f" (from scratch {percent(judged.scratch)}; difference {low:+.1f} to {high:+.1f} "
            "points, 95 % over images)"
        )
    enough = judged.chance + LITTLE

    def diagnosis(label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        return Diagnosis(label=label, sentence=sentence, causes=causes, remedy=remedy, step=step)

    if judged.value < enough and judged.train_value < enough:
        if step < MIN_STEPS:
            return diagnosis(
                "too early", f"Too early to judge after {step:,} steps: {words}; {train}.",
                remedy=f"Raise `epochs`: a verdict needs about {MIN_STEPS} steps.",
            )  # fmt: skip
        return diagnosis(
            "at chance", f"At chance: {words}; {train}.",
            "The learning rate is too high or too low, or the run too short.",
            "The objects are smaller than the anchors, or the images too small to show them.",
            remedy="Try a third and three times the `learning_rate`, a larger `size`, or more "
            "`epochs`.",
        )  # fmt: skip
    if judged.value < enough:
        return diagnosis(
            "overfitted", f"Overfitted: {words}, but {train}.",
            "There are too few images of each class to find others of it.",
            remedy="Annotate more images, or fewer classes; a longer pretraining on similar images "
            "may help.",
        )  # fmt: skip
    if judged.scratch is not None and difference is not None and difference[0] <= 0 < difference[1]:
        gain = judged.value - judged.scratch
        if may_be := undecided("than from scratch", judged.images, gain, difference):
            found = diagnosis(
                "no better than from scratch", f"{may_be}: {words}.", remedy=MORE_TEST_IMAGES
            )
            return replace(found, undecided=True)
    if difference is not None and difference[0] <= 0:
        worse = " It is significantly worse." if difference[1] < 0 else ""
        return diagnosis(
            "no better than from scratch", f"No better than from scratch: {words}.{worse}",
            "The pretrained encoder has learned little of what these objects are.",
            "There are enough objects to learn without pretraining.",
            remedy="Judge the encoder by `coview evaluate`; a longer pretraining may help.",
        )  # fmt: skip
    return diagnosis("learned", f"Learned: {words}; {train}.")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def detected_of(entries: Sequence[Mapping[str, Any]], objects: Objects) -> list[Detected]:
    """What COCO's results hold, image by image; the inverse of ``coco_results``."""
    row_of = {int(number): row for row, number in enumerate(objects.numbers)}
    class_of = {int(number): place for place, number in enumerate(objects.categories)}
    by_row: list[list[Mapping[str, Any]]] = [[] for _ in range(len(objects))]
    for entry in entries:
        by_row[row_of[entry["image_id"]]].append(entry)
    found = []
    for rows in by_row:
        corner = np.array([entry["bbox"] for entry in rows], np.float64).reshape(-1, 4)
        boxes = np.concatenate([corner[:, :2], corner[:, :2] + corner[:, 2:]], axis=1)
        found.append(Detected(
            boxes=boxes, scores=np.array([entry["score"] for entry in rows], np.float64),
            classes=np.array([class_of[entry["category_id"]] for entry in rows], np.int64),
            outlines=[entry["segmentation"] for entry in rows if "segmentation" in entry],
        ))  # fmt: skip
    return found
