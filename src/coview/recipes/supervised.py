"""Recipes of the supervised baseline."""

from __future__ import annotations

from coview.encoders import EncoderSpec
from coview.methods import supervised
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec


def supervised_imagenet() -> Recipe:
    """Cross-entropy for ImageNet at 224 px: ResNet-50 under SimCLR's views, 90 epochs."""
    return Recipe(
        name="supervised-imagenet",
        method=supervised(224),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            # Khosla et al., released ImageNet command: Nesterov, 0.1 x batch / 256, decay 1e-4.
            name="sgd", learning_rate=0.1, scaling="linear", weight_decay=1e-4, nesterov=True,
        ),
        schedule=ScheduleSpec(warmup_epochs=5),
        batch_size=1024,
        epochs=90,
    )  # fmt: skip


def supervised_cifar() -> Recipe:
    """Cross-entropy for 32 px on one GPU: ResNet-18 under SimCLR's views."""
    return Recipe(
        name="supervised-cifar",
        method=supervised(32, classes=10),
        encoder=EncoderSpec(depth=18, stem="small"),
        optimizer=OptimizerSpec(
            # Khosla et al., PyTorch code: 0.8 at batch 1,024; Nesterov is ours.
            name="sgd", learning_rate=0.2, scaling="linear", weight_decay=1e-4, nesterov=True,
        ),
        schedule=ScheduleSpec(warmup_epochs=5),
        batch_size=1024,
        epochs=500,
    )  # fmt: skip
