"""Recipes of the papers. Every number has its source; what has none is our own measurement."""

from __future__ import annotations

from dataclasses import replace

from coview.encoders import EncoderSpec
from coview.heads import HeadSpec
from coview.methods import (
    Method,
    Pair,
    SupCon,
    byol,
    logo,
    moco,
    simclr,
    simclr_v2,
    simsiam,
    supcon,
    supervised,
)
from coview.recipes.recipe import Recipe
from coview.training import OptimizerSpec, ScheduleSpec
from coview.views import AutoAugment, ViewPlan, auto_augmented, preset

BYOL_SMALL_HEAD = HeadSpec(
    hidden=1024, output=256, batch_norm="hidden", bias="hidden", init="torch"
)


def simclr_imagenet() -> Recipe:
    """SimCLR v1 for ImageNet at 224 px: ResNet-50, batch 4,096, LARS (the paper's numbers)."""
    return Recipe(
        name="simclr-imagenet",
        # Appendix A: strength 1, blur with probability 0.5; table 5: temperature 0.1 is best;
        # section 4.2: a head of two layers to 128.
        method=_bicubic(simclr(224, temperature=0.1)),
        encoder=EncoderSpec(depth=50),
        # Section 2.2: 0.3 x batch / 256 = 4.8, decay 1e-6; then cosine without restarts.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=0.3, scaling="linear", weight_decay=1e-6
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=4096,  # section 2.2
        epochs=100,  # section 2.2; the best model of table 6 has 1,000
    )


def simclr_cifar() -> Recipe:
    """SimCLR for 32 px on one GPU: ResNet-18 with the small stem, batch 512, LARS."""
    return Recipe(
        name="simclr-cifar",
        # Appendix B.9: strength 0.5, no blur, temperature 0.5; 3x3 convolution, no pooling.
        method=simclr(32, temperature=0.5),
        encoder=EncoderSpec(depth=18, stem="small"),
        # The published command: 1.0 of {0.5, 1.0, 1.5} in appendix B.9; decay 1e-4 on a loss of
        # twice ours. LARS takes the size of the loss out of every step but that of BatchNorm's
        # parameters, which it does not adapt: theirs is half the official one here.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=1.0, scaling="linear", weight_decay=5e-5
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
        # Appendix B.1: x sqrt(batch) trains better at small batches.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=0.075, scaling="sqrt", weight_decay=1e-6
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=256,
        epochs=200,
    )


def simclr_v2_imagenet() -> Recipe:
    """SimCLRv2 for ImageNet at 224 px: ResNet-152, 3 times as wide, selective kernels, memory."""
    return Recipe(
        name="simclr-v2-imagenet",
        method=_bicubic(simclr_v2(224)),  # section 2: three layers, 65,536 keys, momentum 0.999
        encoder=EncoderSpec(depth=152, width=3, selective_kernels=True),
        # The published 1e-4 goes with a loss of twice ours; see simclr_cifar.
        optimizer=OptimizerSpec(name="lars", learning_rate=0.1, scaling="sqrt", weight_decay=5e-5),
        schedule=ScheduleSpec(warmup_epochs=40),  # 5 % of the epochs
        batch_size=4096,
        epochs=800,
    )


def simclr_v2_cifar() -> Recipe:
    """SimCLRv2 for 32 px on one GPU: that of simclr-cifar with three layers and 4,096 keys."""
    # No published settings at 32 px: the queue is a tenth of the images, as MoCo's notebook has it.
    method = simclr_v2(32, temperature=0.5, memory=4096, momentum=0.99, head=HeadSpec(layers=3))
    return replace(simclr_cifar(), name="simclr-v2-cifar", method=method)


def supcon_cifar() -> Recipe:
    """SupCon for 32 px on one GPU: ResNet-50 with the small stem, batch 1,024, SGD."""
    # The PyTorch code has 0.5 and decay 1e-4 on all parameters, on a loss that it multiplies by
    # temperature / 0.07 = 1.43: 0.71 and 7e-5 on the plain loss. That a smaller batch has a smaller
    # rate is ours.
    optimizer = OptimizerSpec(
        name="sgd", learning_rate=0.71 / 4, scaling="linear", weight_decay=7e-5, exclude=()
    )
    head = HeadSpec(batch_norm="none", bias="all", init="torch")  # the PyTorch code
    return Recipe(
        name="supcon-cifar",
        # Section 4.4: temperature 0.1.
        method=supcon(32, views=preset("supcon_small", 32), temperature=0.1, head=head),
        encoder=EncoderSpec(depth=50, stem="small", zero_init_residual=False),  # the PyTorch code
        optimizer=optimizer,
        schedule=ScheduleSpec(warmup_epochs=10),  # the PyTorch code, for batches above 256
        batch_size=1024,
        epochs=1000,
    )


def supcon_imagenet() -> Recipe:
    """SupCon for ImageNet at 224 px: ResNet-50, batch 6,144, LARS, one linear layer for a head."""
    # The authors' code: one dense layer without bias on the encoder's unit-length output.
    head = HeadSpec(layers=1, batch_norm="none", normalize_input=True)
    views = auto_augmented(224, AutoAugment())  # section 4.4, for ResNet-50
    # The loss times the temperature is the authors' code's: LARS does not adapt BatchNorm's
    # parameters, whose steps follow the size of the loss.
    objective = SupCon(temperature=0.1, scale_by_temperature=True)
    return Recipe(
        name="supcon-imagenet",
        method=replace(supcon(224, views=views, head=head), objective=objective),
        encoder=EncoderSpec(depth=50),
        # The authors' command: 0.4 x batch / 256 and decay 1e-3.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=0.4, scaling="linear", weight_decay=1e-3
        ),
        schedule=ScheduleSpec(warmup_epochs=12),  # what the authors' code has unless told
        batch_size=6144,
        epochs=350,
    )


def moco_imagenet() -> Recipe:
    """MoCo v2 for ImageNet at 224 px: ResNet-50, batch 256, SGD, 65,536 keys."""
    return Recipe(
        name="moco-imagenet",
        method=moco(224),  # the paper's table 1: head of two layers, tau 0.2, blur
        encoder=EncoderSpec(depth=50, zero_init_residual=False),
        # The released code decays every parameter.
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=1e-4, exclude=()
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
        # The notebook has rate 0.06 at batch 512 and decay 5e-4 on the sum of both directions:
        # 0.12 and 2.5e-4 on their mean, which is ours.
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.06, scaling="linear", weight_decay=2.5e-4, exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=512,
        epochs=200,
    )  # fmt: skip


def byol_imagenet() -> Recipe:
    """BYOL for ImageNet at 224 px: ResNet-50, batch 4,096, LARS (the released 300 epochs)."""
    return Recipe(
        name="byol-imagenet",
        # Released presets: 0.99 for 300 epochs.
        method=_bicubic(byol(224, momentum=(0.99, 1.0))),
        encoder=EncoderSpec(depth=50),
        # The released code multiplies by the learning rate after the velocity, SimCLR's LARS
        # before it; they differ while the rate changes.
        optimizer=OptimizerSpec(
            name="lars", learning_rate=0.3, scaling="linear", weight_decay=1e-6
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
            32, momentum=(0.99, 0.99), views=preset("moco_small", 32), head=BYOL_SMALL_HEAD,
            predictor=BYOL_SMALL_HEAD,
        ),
        encoder=EncoderSpec(depth=18, stem="small"),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=5e-4
        ),
        schedule=ScheduleSpec(warmup_epochs=10),
        batch_size=512,
        epochs=200,
    )  # fmt: skip


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
        # Appendix D: two layers, no blur; crops as elsewhere in the paper.
        method=simsiam(32, views=preset("simsiam_small", 32)),
        encoder=EncoderSpec(depth=18, stem="small"),
        optimizer=OptimizerSpec(
            name="sgd", learning_rate=0.03, scaling="linear", weight_decay=5e-4, exclude=(),
        ),
        schedule=ScheduleSpec(warmup_epochs=0),
        batch_size=512,
        epochs=800,
    )  # fmt: skip


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


def logo_moco_imagenet() -> Recipe:
    """MoCo-LoGo for ImageNet at 224 px: two crops of 96 px, lambda 5e-4 on sums (the paper's)."""
    return _with_logo(moco_imagenet())


def logo_moco_code() -> Recipe:
    """MoCo-LoGo with the numbers of the authors' code: mean of 6 terms, gradient ratio 0.015."""
    base = moco_imagenet()
    code = moco(224, temperature=0.07, queue=4096)
    # Both directions count fully there, so that six terms of one weight are averaged.
    method = replace(code, pairing=(Pair(0, 1), Pair(1, 0)))
    return replace(
        base, name="logo-moco-code", method=logo(method, terms="mean", gradient_ratio=0.015)
    )


def logo_simsiam_imagenet() -> Recipe:
    """SimSiam-LoGo for ImageNet at 224 px: two crops of 96 px, lambda 1e-4 on sums."""
    return _with_logo(simsiam_imagenet())


def logo_byol_imagenet() -> Recipe:
    """BYOL-LoGo for ImageNet at 224 px; the paper has none, so SimSiam's lambda."""
    return _with_logo(byol_imagenet())


def logo_simclr_imagenet() -> Recipe:
    """SimCLR-LoGo for ImageNet at 224 px; the paper has none, so MoCo's lambda."""
    return _with_logo(simclr_imagenet())


def logo_moco_cifar() -> Recipe:
    """MoCo-LoGo for 32 px on one GPU: local crops of 32 px too."""
    base = moco_cifar()
    # LoGo's code has 0.03 x batch / 256; its loss is larger by the terms of the local crops.
    optimizer = replace(base.optimizer, learning_rate=0.03, weight_decay=5e-4)
    return _with_logo(replace(base, optimizer=optimizer))


def logo_simsiam_cifar() -> Recipe:
    """SimSiam-LoGo for 32 px on one GPU: 200 epochs, two layers of 2,048, decay 1e-4."""
    # Settings that the paper is quoted with; its crops and the critic's are not known.
    head = HeadSpec(hidden=2048, output=2048, last_affine="none", init="torch")
    base = replace(simsiam_cifar(), epochs=200, method=simsiam(32, head=head))
    return _with_logo(replace(base, optimizer=replace(base.optimizer, weight_decay=1e-4)))


def _bicubic(method: Method) -> Method:
    """``method`` with crops that are resized bicubically, as the code of SimCLR and BYOL has it."""
    views = tuple(
        replace(view, crop=view.crop and replace(view.crop, interpolation="bicubic"))
        for view in method.views.views
    )
    return replace(method, views=ViewPlan(views=views))


def _with_logo(base: Recipe) -> Recipe:
    """``base`` with LoGo over its method."""
    return replace(base, name=f"logo-{base.name}", method=logo(base.method))
