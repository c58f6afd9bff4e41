"""Recipes for a CPU, and for the built-in demonstration; their numbers are our own measurements.

All methods have one network, one policy of crops and colours and one optimiser, so that what two
runs differ in is the method.
"""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import (
    Method,
    byol,
    logo,
    moco,
    multi_crop,
    simclr,
    simclr_v2,
    simsiam,
    supcon,
    supervised,
)
from coview.recipes.recipe import Recipe
from coview.training import OptimiserSpec, ScheduleSpec
from coview.views import ViewPlan
from coview.views import simclr as simclr_views

HEAD = HeadSpec(hidden=256, output=64)
# Heads without BatchNorm at their output, as the papers of these methods have them.
PLAIN_HEAD = HeadSpec(hidden=256, output=64, batch_norm="none", bias="all", init="torch")
BYOL_HEAD = HeadSpec(hidden=512, output=128, batch_norm="hidden", bias="hidden", init="torch")
SIMSIAM_HEAD = HeadSpec(hidden=512, output=512, last_affine="none", init="torch")
# About a tenth of 50,000 images, and a slow network that reaches them within half an hour.
QUEUE, MOMENTUM = 4096, 0.99


def simclr_cpu() -> Recipe:
    """SimCLR at 32 px on two CPU cores: a half-width ResNet-10, half an hour for CIFAR-10."""
    return Recipe(
        name="simclr-cpu",
        method=simclr(
            32,
            views=simclr_views(32, area=(0.2, 1.0)),
            temperature=0.2,
            head=HEAD,
        ),
        # A stem of stride 2 costs a quarter of the small one, one block a group half of two.
        encoder=EncoderSpec(depth=10, width=0.5, stem="medium"),
        optimiser=OptimiserSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-4
        ),
        schedule=ScheduleSpec(warmup_epochs=1),
        batch_size=128,  # a point of kNN more than 256 at equal epochs (docs/lab/0001)
        epochs=33,
    )


def simclr_demo() -> Recipe:
    """SimCLR on the built-in scenes in about two minutes on two cores."""
    base = simclr_cpu()
    # Strength 1 rather than 0.5: the colours of a scene say nothing of what it shows.
    views = simclr_views(32, area=(0.2, 1.0), strength=1.0)
    return replace(
        base,
        name="simclr-demo",
        method=replace(base.method, views=views),
        # Half the width of simclr-cpu: three times the views, which teach more in two minutes.
        encoder=replace(base.encoder, width=0.25),
        schedule=ScheduleSpec(warmup_epochs=0.5),
        epochs=20,
    )


def moco_cpu() -> Recipe:
    """Symmetric MoCo v2 on a CPU: 4,096 keys, momentum 0.99, BatchNorm in groups of 64."""
    return _with(
        "moco-cpu",
        moco(
            32, symmetric=True, temperature=0.2, momentum=MOMENTUM, queue=QUEUE, norm_group=64,
            views=_views(), head=PLAIN_HEAD,
        ),
    )  # fmt: skip


def byol_cpu() -> Recipe:
    """BYOL on a CPU: momentum 0.99 to 1, heads of 512 to 128."""
    return _with(
        "byol-cpu",
        byol(32, momentum=(MOMENTUM, 1.0), views=_views(), head=BYOL_HEAD, predictor=BYOL_HEAD),
    )


def simsiam_cpu() -> Recipe:
    """SimSiam on a CPU: a head of two layers to 512."""
    return _with("simsiam-cpu", simsiam(32, views=_views(), head=SIMSIAM_HEAD))


def simclr_v2_cpu() -> Recipe:
    """SimCLRv2 on a CPU: three layers in the head, 4,096 slow keys."""
    head = replace(HEAD, layers=3)
    return _with(
        "simclr-v2-cpu",
        simclr_v2(32, temperature=0.2, memory=QUEUE, momentum=MOMENTUM, views=_views(), head=head),
    )


def supcon_cpu() -> Recipe:
    """SupCon on a CPU: the network, views and optimiser of simclr-cpu with labels as positives."""
    # At the paper's 0.1 it hardly leaves its first plateau in so few steps (docs/lab/0002).
    return _with("supcon-cpu", supcon(32, temperature=0.5, views=_views(), head=HEAD))


def supervised_cpu() -> Recipe:
    """Cross-entropy on a CPU: the network, views and optimiser of simclr-cpu."""
    return _with("supervised-cpu", supervised(32, classes=10, views=_views()))


def multi_crop_simclr_cpu() -> Recipe:
    """SimCLR with two local crops beside the global ones, on a CPU."""
    return _with("multi-crop-simclr-cpu", multi_crop(simclr_cpu().method))


def logo_moco_cpu() -> Recipe:
    """MoCo-LoGo on a CPU."""
    return _with("logo-moco-cpu", logo(moco_cpu().method))


def logo_simsiam_cpu() -> Recipe:
    """SimSiam-LoGo on a CPU."""
    return _with("logo-simsiam-cpu", logo(simsiam_cpu().method))


def logo_byol_cpu() -> Recipe:
    """BYOL-LoGo on a CPU."""
    return _with("logo-byol-cpu", logo(byol_cpu().method))


def logo_simclr_cpu() -> Recipe:
    """SimCLR-LoGo on a CPU."""
    return _with("logo-simclr-cpu", logo(simclr_cpu().method))


def _with(name: str, method: Method) -> Recipe:
    return replace(simclr_cpu(), name=name, method=method)


def _views() -> ViewPlan:
    return simclr_cpu().method.views
