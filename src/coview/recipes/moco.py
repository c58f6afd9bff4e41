"""MoCo's recipes."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.methods import moco
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec


def moco_imagenet() -> Recipe:
    """MoCo v2 for ImageNet at 224 px: ResNet-50, batch 256, SGD, 65,536 keys."""
    return Recipe(
        name="moco-imagenet",
        method=moco(224),  # the paper's table 1: head of two layers, tau 0.2, blur
        encoder=EncoderSpec(depth=50, zero_init_residual=False),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=1e-4,
            exclude=(),  # the released code decays every parameter
        ),
        schedule=ScheduleSpec(warmup_epochs=0),  # cosine, section 3 of v2
        batch_size=256,
        epochs=200,  # 800 for 71.1 % instead of 67.5 %
    )  # fmt: skip


def moco_v1_imagenet() -> Recipe:
    """MoCo v1 for ImageNet at 224 px: linear head, temperature 0.07, cosine instead of steps."""
    # The paper's learning rate falls tenfold at epochs 120 and 160; ours along a cosine.
    return replace(moco_imagenet(), name="moco-v1-imagenet", method=moco(224, version=1))


def moco_cifar() -> Recipe:
    """Symmetric MoCo v2 for 32 px on one GPU: ResNet-18, batch 512, 4,096 keys."""
    return Recipe(
        name="moco-cifar",
        # The authors' CIFAR-10 notebook: tau 0.1, momentum 0.99, 4,096 keys, 8 groups of 64.
        method=moco(
            32, symmetric=True, temperature=0.1, momentum=0.99, queue=4096, ghost_batch_size=64
        ),
        encoder=EncoderSpec(depth=18, stem="small", zero_init_residual=False),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=5e-4, exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=512,
        epochs=200,
    )  # fmt: skip
