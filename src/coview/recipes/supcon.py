"""SupCon's recipes."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import supcon
from coview.recipes.cpu import simclr_cpu
from coview.recipes.recipe import Recipe
from coview.training import OptimiserSpec, ScheduleSpec
from coview.views import preset


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
        encoder=EncoderSpec(depth=50, stem="small", zero_init=False),  # the PyTorch code
        optimiser=OptimiserSpec(
            name="sgd",
            # The PyTorch code: 0.5, on a loss that it multiplies by temperature / 0.07 = 1.43.
            learning_rate=0.71,
            scaling="none",
            weight_decay=1e-4,  # the PyTorch code, on all parameters
            exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=10),  # the PyTorch code, for batches above 256
        batch_size=1024,
        epochs=1000,
    )


def supcon_cpu() -> Recipe:
    """SupCon on a CPU: the network, views and optimiser of simclr-cpu with labels as positives."""
    base = simclr_cpu()
    return replace(
        base,
        name="supcon-cpu",
        method=supcon(base.image_size, views=base.method.views, head=base.method.head),
    )
