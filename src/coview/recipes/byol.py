"""BYOL's recipes."""

from __future__ import annotations

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import byol
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec
from coview.views import preset

SMALL_HEAD = HeadSpec(hidden=1024, output=256, batch_norm="hidden", bias="hidden", init="torch")


def byol_imagenet() -> Recipe:
    """BYOL for ImageNet at 224 px: ResNet-50, batch 4,096, LARS (the released 300 epochs)."""
    return Recipe(
        name="byol-imagenet",
        method=byol(224, momentum=(0.99, 1.0)),  # released presets: 0.99 for 300 epochs
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            # The released code multiplies by the learning rate after the velocity, SimCLR's LARS
            # before it; they differ while the rate changes.
            name="lars",
            learning_rate=0.3,
            scaling="linear",
            weight_decay=1e-6,
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=4096,
        epochs=300,
    )


def byol_cifar() -> Recipe:
    """BYOL for 32 px on one GPU: ResNet-18, batch 512, SGD, a constant momentum of 0.99."""
    return Recipe(
        name="byol-cifar",
        # No published settings at 32 px: heads and momentum are those of a public benchmark.
        method=byol(
            32,
            momentum=(0.99, 0.99),
            views=preset("moco_small", 32),
            head=SMALL_HEAD,
            predictor=SMALL_HEAD,
        ),
        encoder=EncoderSpec(depth=18, stem="small"),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=5e-4
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=512,
        epochs=200,
    )
