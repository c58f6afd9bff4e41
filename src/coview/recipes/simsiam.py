"""SimSiam's recipes."""

from __future__ import annotations

from coview.encoders import EncoderSpec
from coview.methods import simsiam
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec


def simsiam_imagenet() -> Recipe:
    """SimSiam for ImageNet at 224 px: ResNet-50, batch 512, SGD."""
    return Recipe(
        name="simsiam-imagenet",
        method=simsiam(224),  # section 3: three layers, predictor 2048 - 512 - 2048
        encoder=EncoderSpec(depth=50, zero_init_residual=True),  # the released code
        optimizer=OptimizerSpec(
            # Section 3: 0.05 x batch / 256, decay 1e-4 on all parameters. The predictor's rate
            # follows the schedule as well; the released code can hold it constant.
            name="sgd", learning_rate=0.05, scaling="linear", weight_decay=1e-4, exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=512,
        epochs=100,
    )  # fmt: skip


def simsiam_cifar() -> Recipe:
    """SimSiam for 32 px on one GPU: ResNet-18, batch 512, SGD (appendix D)."""
    return Recipe(
        name="simsiam-cifar",
        method=simsiam(32),  # appendix D: two layers, no blur
        encoder=EncoderSpec(depth=18, stem="small"),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=5e-4, exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=512,
        epochs=800,
    )  # fmt: skip
