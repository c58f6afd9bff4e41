"""Recipes of detectors and segmenters, by the schedules of the papers."""

from __future__ import annotations

from coview.dense import Detector, Segmenter
from coview.encoders import EncoderSpec
from coview.recipes.recipe import DenseRecipe
from coview.training import OptimizerSpec, StepSchedule
from coview.views import ViewPlan, ViewSpec

COCO_STEPS = 117_266 // 16
"""Batches of 16 in COCO train2017, whose images without objects are left out."""
VOC_STEPS = 16_551 // 16
"""The same of VOC 2007 and 2012 trainval together."""
VOC_MAPS_STEPS = 10_582 // 16
"""The same of VOC's train_aug, with label maps."""


def plain_view(size: int) -> ViewPlan:
    """Images at this short side, flipped at random."""
    return ViewPlan(views=(ViewSpec(size=size, flip=0.5),))


def sgd(batch_16: float) -> OptimizerSpec:
    """SGD with this learning rate at batch 16, in proportion at others; the norms do not decay."""
    return OptimizerSpec(
        name="sgd", learning_rate=batch_16 * 16, scaling="linear", weight_decay=1e-4,
        exclude=("norm",),
    )  # fmt: skip


def coco_1x() -> DenseRecipe:
    """Mask R-CNN with FPN on COCO: 90,000 steps of 16 images (1x), SyncBN everywhere."""
    return coco("coco-1x", 90_000)


def coco_2x() -> DenseRecipe:
    """Mask R-CNN with FPN on COCO: 180,000 steps of 16 images (2x), SyncBN everywhere."""
    return coco("coco-2x", 180_000)


def coco_1x_c4() -> DenseRecipe:
    """Mask R-CNN C4 on COCO: 90,000 steps of 16 images (1x)."""
    return coco_c4("coco-1x-c4", 90_000)


def coco_2x_c4() -> DenseRecipe:
    """Mask R-CNN C4 on COCO: 180,000 steps of 16 images (2x), as MoCo."""
    return coco_c4("coco-2x-c4", 180_000)


def coco(name: str, steps: int) -> DenseRecipe:
    # detectron2's configurations with PyContrast's heads: 4conv1fc, BatchNorm in FPN and heads;
    # steps at 2/3 and 8/9, warm-up 1,000 steps, short side 640 to 800 in steps of 32.
    method = Detector(
        name="mask-rcnn-fpn", views=plain_view(800), classes=80, masks=True, norm_in_heads=True,
        box_head="4conv1fc", scale=(0.8, 1.0), scales=6,
    )  # fmt: skip
    return _coco(name, method, steps)


def coco_c4(name: str, steps: int) -> DenseRecipe:
    # MoCo's detectron2 configurations: 12,000 -> 2,000 proposals, 6,000 -> 1,000 in testing, a
    # BatchNorm after the fourth group.
    method = Detector(
        name="mask-rcnn-c4", form="c4", views=plain_view(800), classes=80, masks=True,
        extra_norm=True, scale=(0.8, 1.0), scales=6, proposals=(12_000, 2000),
        test_proposals=(6000, 1000),
    )  # fmt: skip
    return _coco(name, method, steps)


def _coco(name: str, method: Detector, steps: int) -> DenseRecipe:
    drops = (60_000 / 90_000, 80_000 / 90_000) if steps == 90_000 else (120 / 180, 160 / 180)
    return DenseRecipe(
        name=name, method=method, encoder=EncoderSpec(depth=50), optimizer=sgd(0.02),
        schedule=StepSchedule(drops=drops, warmup_epochs=1000 / COCO_STEPS),
        batch_size=16, epochs=steps / COCO_STEPS,
    )  # fmt: skip


def voc_24k() -> DenseRecipe:
    """Faster R-CNN C4 on VOC 2007 and 2012: 24,000 steps of 16 images, as MoCo."""
    # MoCo's configuration: steps at 18,000 and 22,000, warm-up 100, short side 480 to 800.
    method = Detector(
        name="faster-rcnn-c4", form="c4", views=plain_view(800), classes=20, extra_norm=True,
        scale=(0.6, 1.0), scales=11, proposals=(12_000, 2000), test_proposals=(6000, 1000),
    )  # fmt: skip
    return DenseRecipe(
        name="voc-24k", method=method, encoder=EncoderSpec(depth=50), optimizer=sgd(0.02),
        schedule=StepSchedule(drops=(18 / 24, 22 / 24), warmup_epochs=100 / VOC_STEPS),
        batch_size=16, epochs=24_000 / VOC_STEPS,
    )  # fmt: skip


def voc_fcn_30k() -> DenseRecipe:
    """A fully convolutional network on VOC 2012's label maps: 30,000 steps of 16, as MoCo."""
    # He et al. 2020, appendix A.5: squares of 513 at 0.5 to 2 times the size, 0.003, drops at 70 %
    # and 90 %.
    method = Segmenter(
        name="fcn", views=plain_view(513), classes=21, scale=(0.5, 2.0),
    )  # fmt: skip
    return DenseRecipe(
        name="voc-fcn-30k", method=method, encoder=EncoderSpec(depth=50), optimizer=sgd(0.003),
        schedule=StepSchedule(drops=(0.7, 0.9), warmup_epochs=0),
        batch_size=16, epochs=30_000 / VOC_MAPS_STEPS,
    )  # fmt: skip


def detect_cpu() -> DenseRecipe:
    """Faster R-CNN with a narrow FPN on a CPU: 160 px, AdamW, batch 8, 40 epochs."""
    method = Detector(
        name="faster-rcnn-fpn", views=plain_view(160), classes=80, channels=64, hidden=128,
        anchors=(16, 32, 64, 128), max_ratio=1.6, proposals=(500, 200), test_proposals=(500, 200),
        sampled=(128, 64),
    )  # fmt: skip
    return DenseRecipe(
        name="detect-cpu", method=method, encoder=EncoderSpec(depth=10, width=0.25, stem="medium"),
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-2
        ),
        schedule=StepSchedule(drops=(0.75, 0.92), warmup_epochs=1),
        batch_size=8, epochs=40,
    )  # fmt: skip


def segment_cpu() -> DenseRecipe:
    """A fully convolutional network on a CPU: squares of 96 px, AdamW, batch 8, 40 epochs."""
    method = Segmenter(
        name="fcn", views=plain_view(96), classes=2, channels=64, dilation=2, scale=(0.75, 1.5),
    )  # fmt: skip
    return DenseRecipe(
        name="segment-cpu", method=method, encoder=EncoderSpec(depth=10, width=0.25, stem="medium"),
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-2
        ),
        schedule=StepSchedule(drops=(0.75, 0.92), warmup_epochs=1),
        batch_size=8, epochs=40,
    )  # fmt: skip
