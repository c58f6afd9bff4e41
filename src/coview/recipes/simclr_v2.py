"""SimCLRv2's recipes."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import simclr_v2
from coview.recipes.recipe import Recipe
from coview.recipes.simclr import simclr_cifar
from coview.training import OptimizerSpec, ScheduleSpec


def simclr_v2_imagenet() -> Recipe:
    """SimCLRv2 for ImageNet at 224 px: ResNet-152, 3 times as wide, selective kernels, memory."""
    return Recipe(
        name="simclr-v2-imagenet",
        method=simclr_v2(224),  # section 2: three layers, 65,536 keys, momentum 0.999
        encoder=EncoderSpec(depth=152, width=3, selective_kernels=True),
        optimizer=OptimizerSpec(name="lars", learning_rate=0.1, scaling="sqrt", weight_decay=1e-4),
        schedule=ScheduleSpec(warmup_epochs=40),  # 5 % of the epochs
        batch_size=4096,
        epochs=800,
    )


def simclr_v2_cifar() -> Recipe:
    """SimCLRv2 for 32 px on one GPU: that of simclr-cifar with three layers and 4,096 keys."""
    # No published settings at 32 px: the queue is a tenth of the images, as MoCo's notebook has it.
    method = simclr_v2(32, temperature=0.5, memory=4096, momentum=0.99, head=HeadSpec(layers=3))
    return replace(simclr_cifar(), name="simclr-v2-cifar", method=method)
