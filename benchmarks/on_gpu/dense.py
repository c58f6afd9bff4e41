"""Detectors and segmenters beside the CPU: losses, gradient, proposals, and what they find.

What a detector computes of its maps depends on which proposals are kept, where rounding may change
the order of two. The proposals of the CPU therefore go into the heads of the others; how many of
their own are the same stands beside. All is of the first step, from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from coview.core.batches import Batch
from coview.core.repeatable import repeatable
from coview.dense import Detector, Segmenter
from coview.dense.inputs import example_objects
from coview.dense.learner import DetectionLearner, SegmentationLearner, dense_learner, split_targets
from coview.dense.method import DenseMethod
from coview.encoders import EncoderSpec
from coview.methods.batch_norm import batch_norms
from coview.training.precision import Precision
from coview.training.step import gradients
from coview.views import ViewPlan, ViewSpec
from on_gpu.networks import SEED, SGD, as_vector, distance, rounded
from on_gpu.part import Part

CPU = torch.device("cpu")
CLASSES, IMAGES = 3, 2
LOSS, GRADIENT = 1e-4, 1e-2  # relative, in float32
IN_BF16 = 0.03  # of each loss, relative
SAME_BOX, SAME = 0.9, 0.95  # the overlap of two boxes that are one; the share of boxes that are
# Of proposals in bf16. On a CPU 0.96 are; 0.73 where the anchors are rounded as well.
SAME_IN_BF16 = 0.85
SAME_PIXELS = 0.99


def run(part: Part) -> None:
    """A Mask R-CNN with a pyramid at 800 px and a segmenter at 513 px, both on a ResNet-50."""
    for name, method in methods(tiny=part.tiny).items():
        with part.case(name, needs=0 if part.tiny else 15) as go:
            if go:
                compare(part, name, method)


def methods(*, tiny: bool) -> dict[str, DenseMethod]:
    side, square = (64, 48) if tiny else (800, 513)
    detector = Detector(name="detector", views=_view(side), classes=CLASSES, masks=True)
    segmenter = Segmenter(name="segmenter", views=_view(square), classes=CLASSES)
    if tiny:
        detector = replace(
            detector, channels=8, hidden=16, anchors=(8, 16, 32, 64), proposals=(60, 30),
            test_proposals=(60, 30), sampled=(32, 16),
        )  # fmt: skip
        segmenter = replace(segmenter, channels=8, dilation=2)
    return {"detector with outlines": detector, "segmenter": segmenter}


def _view(size: int) -> ViewPlan:
    return ViewPlan(views=(ViewSpec(size=size),))


@dataclass(kw_only=True)
class Measured:
    """Of the first step on a device, and in float32 of what the network finds after it."""

    losses: dict[str, float]
    gradient: Tensor
    gibibytes: float
    proposals: list[Tensor] = field(default_factory=list)  # of each image, [P, 4]
    found: list[dict[str, Tensor]] = field(default_factory=list)
    pixels: Tensor | None = None  # the class of each


def compare(part: Part, name: str, method: DenseMethod) -> None:
    batch = batch_of(method)
    exact = measured(part, method, batch, Precision(CPU, "fp32"))
    for format in ("fp32", "bf16"):
        other = measured(part, method, batch, Precision(part.device, format), exact.proposals)
        off = {
            key: abs(other.losses[key] - loss) / max(abs(loss), 1e-12)
            for key, loss in exact.losses.items()
        }
        far = distance(other.gradient, exact.gradient)["relative"]
        same = (
            {"proposals": same_boxes(exact.proposals, other.proposals)} if exact.proposals else {}
        )
        if format == "bf16":
            ok = max(off.values()) <= IN_BF16 and min(same.values(), default=1.0) >= SAME_IN_BF16
        else:
            if exact.pixels is None:
                same["boxes"] = same_boxes(*map(with_classes, (exact.found, other.found)))
                same_enough = min(same.values()) >= SAME
            else:
                same["pixels"] = float((exact.pixels == other.pixels).double().mean())
                same_enough = same["pixels"] >= SAME_PIXELS
            ok = max(off.values()) <= LOSS and far <= GRADIENT and same_enough
        part.write(
            f"{name} in {format}", ok=ok, losses_off=rounded(off), gradient_off=float(f"{far:.3g}"),
            same=rounded(same), gibibytes=round(other.gibibytes, 2),
            **({"cpu: losses": rounded(exact.losses)} if format == "fp32" else {}),
        )  # fmt: skip


def measured(
    part: Part, method: DenseMethod, batch: Batch, precision: Precision,
    proposals: list[Tensor] | None = None,
) -> Measured:  # fmt: skip
    encoder = EncoderSpec(depth=10, width=0.125, stem="medium") if part.tiny else EncoderSpec()
    task: Any = dense_learner(method, encoder.build(SEED), seed=SEED)
    precision.prepare(task).train()
    for norm in batch_norms(task):
        norm.momentum = None  # what is found is found with the statistics of this batch
    own: list[Tensor] = []
    if isinstance(task, DetectionLearner):
        task.head.rpn.filter_proposals = _given(task.head.rpn.filter_proposals, own, proposals)
    kept: dict[str, Any] = {}

    def step() -> None:
        placed = precision.place(batch)
        with repeatable(precision.device):
            kept["terms"], _ = gradients(task, placed, SGD.build(task), precision)

    peak = part.peak(step)
    task.after_step(0)
    result = Measured(
        losses={key: float(term.detach()) for key, term in kept["terms"].items()},
        gradient=as_vector(p.grad for p in task.parameters() if p.grad is not None),
        gibibytes=peak, proposals=own,
    )  # fmt: skip
    task.zero_grad(set_to_none=True)
    if precision.format == "bf16":  # evaluation is always in float32
        return result
    if isinstance(task, SegmentationLearner):
        result.pixels = task.segment(batch.views[0]).argmax(1).cpu()
        return result
    del task.head.rpn.filter_proposals
    images, sizes, _ = split_targets(batch)
    result.found = [{k: v.cpu() for k, v in each.items()} for each in task.detect(images, sizes)]
    return result


def _given(
    real: Callable[..., Any], own: list[Tensor], proposals: list[Tensor] | None
) -> Callable[..., Any]:
    """``real``, whose proposals go to ``own``, and which gives ``proposals`` instead of them."""

    def filter_proposals(boxes: Tensor, *arguments: Any) -> Any:
        found, scores = real(boxes, *arguments)
        own.extend(each.detach().cpu() for each in found)
        if proposals is None:
            return found, scores
        return [each.to(boxes.device) for each in proposals], scores

    return filter_proposals


def batch_of(method: DenseMethod) -> Batch:
    """Noise with brighter objects, of all classes."""
    batch = example_objects(method, IMAGES)
    if isinstance(method, Segmenter):
        noise, maps = batch.views
        third = method.view.size // 3
        for number in range(CLASSES):
            maps[:, number * third : (number + 1) * third] = number
        maps[:, :, :4] = 255  # of no class
        return replace(batch, views=(noise + maps.clamp(max=CLASSES)[:, None] * 0.5, maps))
    images, sizes, boxes, owners, classes, *masks = batch.views
    classes = classes + torch.arange(len(classes)) % CLASSES
    for mask, owner, kind, box in zip(masks[0], owners, classes, boxes.long(), strict=True):
        left, top, right, bottom = box.tolist()
        mask.zero_()
        mask[top:bottom, left : (left + right) // 2] = 1
        images[owner, :, top:bottom, left:right] += 0.5 * float(kind)
    return replace(batch, views=(images, sizes, boxes, owners, classes, masks[0]))


def with_classes(found: list[dict[str, Tensor]]) -> list[Tensor]:
    """The boxes of each image, moved so far by their class that those of two never meet."""
    return [each["boxes"] + 10_000 * each["labels"][:, None] for each in found]


def same_boxes(one: list[Tensor], other: list[Tensor]) -> float:
    """The share of the boxes of ``one`` that ``other`` has as well, image by image."""
    hits = [
        (box_iou(mine, theirs) > SAME_BOX).any(1)
        for mine, theirs in zip(one, other, strict=True)
    ]  # fmt: skip
    return float(torch.cat(hits).double().mean())
