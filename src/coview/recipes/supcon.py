"""SupCon's recipes."""

from __future__ import annotations

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import supcon
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec
from coview.views import AutoAugment, auto_augmented, preset


def supcon_cifar() -> Recipe:
    """SupCon for 32 px on one GPU: ResNet-50 with the small stem, batch 1,024, SGD."""
    return Recipe(
        name="supcon-cifar",
        method=supcon(
            32,
            views=preset("supcon_small", 32),
            temperature=0.1,  # section 4.4
            head=HeadSpec(batch_norm="none", bias="all", init="torch"),  # the PyTorch code
        ),
        encoder=EncoderSpec(depth=50, stem="small", zero_init_residual=False),  # the PyTorch code
        optimizer=OptimizerSpec(
            name="sgd",
            # The PyTorch code: 0.5 and decay 1e-4 on all parameters, on a loss that it multiplies
            # by temperature / 0.07 = 1.43: 0.71 and 7e-5 on the plain loss.
            learning_rate=0.71,
            scaling="none",
            weight_decay=7e-5,
            exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=10),  # the PyTorch code, for batches above 256
        batch_size=1024,
        epochs=1000,
    )


def supcon_imagenet() -> Recipe:
    """SupCon for ImageNet at 224 px: ResNet-50, batch 6,144, LARS, one linear layer for a head."""
    return Recipe(
        name="supcon-imagenet",
        method=supcon(
            224,
            views=auto_augmented(224, AutoAugment()),  # section 4.4, for ResNet-50
            temperature=0.1,
            # The authors' code: one dense layer without bias on the encoder's unit-length output.
            head=HeadSpec(layers=1, batch_norm="none", normalize_input=True),
        ),
        encoder=EncoderSpec(depth=50),
        optimizer=OptimizerSpec(
            # The authors' code: 0.4 x batch / 256 and decay 1e-3 on a loss that it multiplies by
            # the temperature; LARS follows the direction of gradient plus decay, so that the plain
            # loss needs ten times the decay.
            name="lars",
            learning_rate=0.4,
            scaling="linear",
            weight_decay=1e-2,
        ),
        schedule=ScheduleSpec(warmup_epochs=5),
        batch_size=6144,
        epochs=350,
    )
