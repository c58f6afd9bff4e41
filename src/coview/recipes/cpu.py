"""Recipes for a CPU, and for the built-in demonstration; their numbers are our own measurements.

The methods have one network, one policy of crops and colors and one optimizer, so that what two
runs differ in is the method. SimCLR itself is tuned apart: simclr-cpu for half an hour of CIFAR-10,
simclr-photos-cpu for photographs, simclr-demo for two minutes of scenes.
"""

from __future__ import annotations

from dataclasses import replace

from coview import methods
from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec
from coview.views import ViewPlan, simclr_views

AREA = (0.2, 1.0)
HEAD = HeadSpec(hidden=256, output=64)
# Heads without BatchNorm at their output, as the papers of these methods have them.
PLAIN_HEAD = HeadSpec(hidden=256, output=64, batch_norm="none", bias="all", init="torch")
BYOL_HEAD = HeadSpec(hidden=512, output=128, batch_norm="hidden", bias="hidden", init="torch")
SIMSIAM_HEAD = HeadSpec(hidden=512, output=512, last_affine="none", init="torch")
# About a tenth of 50,000 images, and a slow network that reaches them within half an hour.
QUEUE, MOMENTUM = 4096, 0.99


def simclr_cpu() -> Recipe:
    """SimCLR at 32 px on two CPU cores: a quarter-width ResNet-10, half an hour for CIFAR-10."""
    base = _common("simclr-cpu", methods.simclr(32, temperature=0.1, views=_views(), head=HEAD))
    # In equal time a small network sees more views, which teach more (docs/lab/0003).
    return replace(
        base, encoder=replace(base.encoder, width=0.25),
        optimizer=replace(base.optimizer, learning_rate=4e-3), epochs=100,
    )  # fmt: skip


def simclr_photos_cpu() -> Recipe:
    """SimCLR on photographs at 96 px on a CPU: a quarter-width ResNet-18."""
    # At the rate and temperature of simclr-cpu its first 300 steps gain nothing (docs/lab/0003).
    base = _common("simclr-photos-cpu", replace(_simclr(), views=simclr_views(96)))
    return replace(base, encoder=EncoderSpec(depth=18, width=0.25), epochs=100)


def simclr_demo() -> Recipe:
    """SimCLR on the built-in scenes in about two minutes on two cores."""
    # Strength 1 rather than 0.5: the colors of a scene say nothing of what it shows.
    views = simclr_views(32, area=AREA, jitter_strength=1.0)
    base = _common("simclr-demo", replace(_simclr(), views=views))
    return replace(
        base, encoder=replace(base.encoder, width=0.25), schedule=ScheduleSpec(warmup_epochs=0.5),
        epochs=20,
    )  # fmt: skip


def moco_cpu() -> Recipe:
    """Symmetric MoCo v2 on a CPU: 4,096 keys, momentum 0.99, BatchNorm in groups of 64."""
    return _common(
        "moco-cpu",
        methods.moco(
            32, symmetric=True, temperature=0.2, momentum=MOMENTUM, queue=QUEUE,
            ghost_batch_size=64, views=_views(), head=PLAIN_HEAD,
        ),
    )  # fmt: skip


def byol_cpu() -> Recipe:
    """BYOL on a CPU: momentum 0.99 to 1, heads of 512 to 128."""
    return _common(
        "byol-cpu",
        methods.byol(
            32, momentum=(MOMENTUM, 1.0), views=_views(), head=BYOL_HEAD, predictor=BYOL_HEAD
        ),
    )


def simsiam_cpu() -> Recipe:
    """SimSiam on a CPU: a head of two layers to 512."""
    return _common("simsiam-cpu", methods.simsiam(32, views=_views(), head=SIMSIAM_HEAD))


def simclr_v2_cpu() -> Recipe:
    """SimCLRv2 on a CPU: three layers in the head, 4,096 slow keys."""
    head = replace(HEAD, layers=3)
    return _common(
        "simclr-v2-cpu",
        methods.simclr_v2(
            32, temperature=0.2, memory=QUEUE, momentum=MOMENTUM, views=_views(), head=head
        ),
    )


def supcon_cpu() -> Recipe:
    """SupCon on a CPU: images of one label are positives."""
    # At the paper's 0.1 it hardly leaves its first plateau in so few steps (docs/lab/0002).
    return _common("supcon-cpu", methods.supcon(32, temperature=0.5, views=_views(), head=HEAD))


def supervised_cpu() -> Recipe:
    """Cross-entropy on a CPU."""
    return _common("supervised-cpu", methods.supervised(32, classes=10, views=_views()))


def multi_crop_simclr_cpu() -> Recipe:
    """SimCLR with two local crops beside the global ones, on a CPU."""
    return _common("multi-crop-simclr-cpu", methods.multi_crop(_simclr()))


def logo_moco_cpu() -> Recipe:
    """MoCo-LoGo on a CPU."""
    return _common("logo-moco-cpu", methods.logo(moco_cpu().method))


def logo_simsiam_cpu() -> Recipe:
    """SimSiam-LoGo on a CPU."""
    return _common("logo-simsiam-cpu", methods.logo(simsiam_cpu().method))


def logo_byol_cpu() -> Recipe:
    """BYOL-LoGo on a CPU."""
    return _common("logo-byol-cpu", methods.logo(byol_cpu().method))


def logo_simclr_cpu() -> Recipe:
    """SimCLR-LoGo on a CPU."""
    return _common("logo-simclr-cpu", methods.logo(_simclr()))


def _common(name: str, method: methods.Method) -> Recipe:
    """What the methods share, about half an hour of CIFAR-10 with two global views."""
    return Recipe(
        name=name,
        method=method,
        # A stem of stride 2 costs a quarter of the small one, one block a group half of two.
        encoder=EncoderSpec(depth=10, width=0.5, stem="medium"),
        optimizer=OptimizerSpec(
            name="adamw", learning_rate=2e-3, scaling="none", weight_decay=1e-4
        ),
        schedule=ScheduleSpec(warmup_epochs=1),
        batch_size=128,  # a point of kNN more than 256 at equal epochs (docs/lab/0001)
        epochs=33,
    )


def _simclr() -> methods.Method:
    return methods.simclr(32, temperature=0.2, views=_views(), head=HEAD)


def _views() -> ViewPlan:
    return simclr_views(32, area=AREA)
