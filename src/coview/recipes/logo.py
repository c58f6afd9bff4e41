"""LoGo's recipes: the base method's, with local crops that repel each other."""

from __future__ import annotations

from dataclasses import replace

from coview.heads import HeadSpec
from coview.methods import Pair, logo, moco, simsiam
from coview.recipes.byol import byol_imagenet
from coview.recipes.moco import moco_cifar, moco_imagenet
from coview.recipes.recipe import Recipe
from coview.recipes.simclr import simclr_imagenet
from coview.recipes.simsiam import simsiam_cifar, simsiam_imagenet


def logo_moco_imagenet() -> Recipe:
    """MoCo-LoGo for ImageNet at 224 px: two crops of 96 px, lambda 5e-4 on sums (the paper's)."""
    return over(moco_imagenet())


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
    return over(simsiam_imagenet())


def logo_byol_imagenet() -> Recipe:
    """BYOL-LoGo for ImageNet at 224 px; the paper has none, so SimSiam's lambda."""
    return over(byol_imagenet())


def logo_simclr_imagenet() -> Recipe:
    """SimCLR-LoGo for ImageNet at 224 px; the paper has none, so MoCo's lambda."""
    return over(simclr_imagenet())


def logo_moco_cifar() -> Recipe:
    """MoCo-LoGo for 32 px on one GPU: local crops of 32 px too."""
    return over(moco_cifar())


def logo_simsiam_cifar() -> Recipe:
    """SimSiam-LoGo for 32 px on one GPU: 200 epochs, two layers of 2,048, decay 1e-4."""
    # Settings that the paper is quoted with; its crops and the critic's are not known.
    head = HeadSpec(hidden=2048, output=2048, last_affine="none", init="torch")
    base = replace(simsiam_cifar(), epochs=200, method=simsiam(32, head=head))
    return over(replace(base, optimizer=replace(base.optimizer, weight_decay=1e-4)))


def over(base: Recipe) -> Recipe:
    """``base`` with LoGo over its method."""
    return replace(base, name=f"logo-{base.name}", method=logo(base.method))
