"""Recipes of fine-tuning: cross-entropy on one view of each image, crop and flip."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import Method, supervised
from coview.recipes.recipe import KeptHead, Recipe
from coview.training import OptimizerSpec, ScheduleSpec
from coview.views import Crop, ViewPlan, ViewSpec

FEW_LABELS = 0.1
"""Up to this share of the labels SimCLRv2 keeps the first layer of the head."""
ROUNDING = 1.05  # 10 % of few images are not quite a tenth
WITHOUT_LARS = ("bias", "norm", "head.*")
"""What LARS leaves alone in the released code of SimCLR: BatchNorm, biases and the new classifier,
whose weights begin at zero. They take plain momentum at the full rate."""


def classifier_method(
    size: int, *, classes: int, area: tuple[float, float] = (0.08, 1.0), zeros: bool = True
) -> Method:
    """Logits = W f(view) + b of one view, a random crop and flip; the logits start at zero.

    Source: Chen et al., SimCLR, 2020, appendix B.5; SimCLRv2, 2020, section 2.2.
    """
    views = ViewPlan(views=(ViewSpec(size=size, crop=Crop(area=area), flip=0.5),))
    method = supervised(size, classes=classes, views=views)
    head = HeadSpec(
        layers=1, output=classes, batch_norm="none", bias="all", init="zeros" if zeros else "normal"
    )
    return replace(method, name="finetune", head=head)


def finetune_v1_imagenet() -> Recipe:
    """Fine-tuning as SimCLR v1: the head is dropped; SGD with Nesterov, batch 4,096, 60 epochs."""
    return Recipe(
        name="finetune-v1-imagenet",
        method=classifier_method(224, classes=1000, zeros=False),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            # Appendix B.5: 0.05 x batch / 256 = 0.8, Nesterov 0.9, no weight decay, no warm-up.
            name="sgd", learning_rate=0.05, scaling="linear", nesterov=True,
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=4096,
        epochs=60,  # of 1 % of the labels; 30 of 10 %
    )  # fmt: skip


def finetune_v2_imagenet() -> Recipe:
    """Fine-tuning as SimCLRv2: from the head's first layer; LARS, batch 1,024, 60 epochs."""
    return Recipe(
        name="finetune-v2-imagenet",
        method=classifier_method(224, classes=1000),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            # The published command: 0.005 x sqrt(1,024) = 0.16, no weight decay, no warm-up.
            name="lars", learning_rate=0.005, scaling="sqrt", exclude=WITHOUT_LARS,
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=1024,
        epochs=60,  # of 1 % of the labels; 30 of 10 % and of all
        kept_head=KeptHead(head=HeadSpec(layers=3), layers=1),
    )  # fmt: skip


def finetune_cpu() -> Recipe:
    """Fine-tuning on a CPU: from the head's first layer; AdamW, batch 64, 60 epochs."""
    return Recipe(
        name="finetune-cpu",
        # Settings compared on a part of the training images (docs/lab/0004).
        method=classifier_method(32, classes=10, area=(0.2, 1.0)),
        encoder=EncoderSpec(depth=10, width=0.25, stem="medium"),
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-2
        ),
        schedule=ScheduleSpec(warmup_epochs=1),
        batch_size=64,
        epochs=60,  # of 1 % of the labels; 30 of 10 % and of all
        kept_head=KeptHead(head=HeadSpec(hidden=256, output=64), layers=1),
    )


def for_label_share(recipe: Recipe, share: float) -> Recipe:
    """``recipe`` with the epochs and the kept layers that go with this share of the labels.

    The papers halve the epochs from 10 % on; SimCLRv2 drops the head for all labels.

    >>> for_label_share(finetune_v2_imagenet(), 1.0).epochs
    30.0
    """
    if share < FEW_LABELS / ROUNDING:
        return recipe
    kept = recipe.kept_head if share <= FEW_LABELS * ROUNDING else None
    return replace(recipe, epochs=recipe.epochs / 2, kept_head=kept)
