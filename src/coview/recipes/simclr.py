"""SimCLR's recipes. Every number has its source behind it; what has none is our own measurement."""

from __future__ import annotations

from coview.encoders import EncoderSpec
from coview.methods import simclr
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec


def simclr_imagenet() -> Recipe:
    """SimCLR v1 for ImageNet at 224 px: ResNet-50, batch 4,096, LARS (the paper's numbers)."""
    return Recipe(
        name="simclr-imagenet",
        # Appendix A: strength 1, blur with probability 0.5; table 5: temperature 0.1 is best;
        # section 4.2: a head of two layers to 128.
        method=simclr(224, temperature=0.1),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            name="lars",
            learning_rate=0.3,  # section 2.2: 0.3 x batch / 256 = 4.8
            scaling="linear",
            weight_decay=1e-6,  # section 2.2
        ),
        schedule=ScheduleSpec(warmup_epochs=10),  # section 2.2: then cosine without restarts
        batch_size=4096,  # section 2.2
        epochs=100,  # section 2.2; the best model of table 6 has 1,000
    )


def simclr_cifar() -> Recipe:
    """SimCLR for 32 px on one GPU: ResNet-18 with the small stem, batch 512, LARS."""
    return Recipe(
        name="simclr-cifar",
        # Appendix B.9: strength 0.5, no blur, temperature 0.5.
        method=simclr(32, temperature=0.5),
        encoder=EncoderSpec(depth=18, stem="small"),  # appendix B.9: 3x3 convolution, no pooling
        optimizer=OptimizerSpec(
            name="lars",
            learning_rate=1.0,  # appendix B.9, among {0.5, 1.0, 1.5}; the published command
            scaling="linear",
            weight_decay=5e-5,  # the published command: 1e-4 on a loss of twice ours
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=512,  # the published command
        epochs=1000,  # the published command
    )


def simclr_photos() -> Recipe:
    """SimCLR for photographs on one GPU: ResNet-50 at 224 px, batch 256."""
    return Recipe(
        name="simclr-photos",
        # The first author's advice for small batches (issue 166 of the code): temperature 0.2.
        method=simclr(224, temperature=0.2),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            name="lars",
            learning_rate=0.075,  # appendix B.1: x sqrt(batch) trains better at small batches
            scaling="sqrt",
            weight_decay=1e-6,
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=256,
        epochs=200,
    )
