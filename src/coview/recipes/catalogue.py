"""All recipes by name."""

from __future__ import annotations

from collections.abc import Callable

from coview.core.errors import UnknownName
from coview.methods import list_methods
from coview.recipes import (
    byol,
    cpu,
    finetune,
    logo,
    moco,
    simclr,
    simclr_v2,
    simsiam,
    supcon,
    supervised,
)
from coview.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "simclr-imagenet": simclr.simclr_imagenet,
    "simclr-cifar": simclr.simclr_cifar,
    "simclr-photos": simclr.simclr_photos,
    "simclr-cpu": cpu.simclr_cpu,
    "simclr-photos-cpu": cpu.simclr_photos_cpu,
    "simclr-demo": cpu.simclr_demo,
    "simclr-v2-imagenet": simclr_v2.simclr_v2_imagenet,
    "simclr-v2-cifar": simclr_v2.simclr_v2_cifar,
    "simclr-v2-cpu": cpu.simclr_v2_cpu,
    "supcon-imagenet": supcon.supcon_imagenet,
    "supcon-cifar": supcon.supcon_cifar,
    "supcon-cpu": cpu.supcon_cpu,
    "moco-imagenet": moco.moco_imagenet,
    "moco-v1-imagenet": moco.moco_v1_imagenet,
    "moco-cifar": moco.moco_cifar,
    "moco-cpu": cpu.moco_cpu,
    "byol-imagenet": byol.byol_imagenet,
    "byol-cifar": byol.byol_cifar,
    "byol-cpu": cpu.byol_cpu,
    "simsiam-imagenet": simsiam.simsiam_imagenet,
    "simsiam-cifar": simsiam.simsiam_cifar,
    "simsiam-cpu": cpu.simsiam_cpu,
    "logo-moco-imagenet": logo.logo_moco_imagenet,
    "logo-moco-code": logo.logo_moco_code,
    "logo-simsiam-imagenet": logo.logo_simsiam_imagenet,
    "logo-byol-imagenet": logo.logo_byol_imagenet,
    "logo-simclr-imagenet": logo.logo_simclr_imagenet,
    "logo-moco-cifar": logo.logo_moco_cifar,
    "logo-simsiam-cifar": logo.logo_simsiam_cifar,
    "logo-moco-cpu": cpu.logo_moco_cpu,
    "logo-simsiam-cpu": cpu.logo_simsiam_cpu,
    "logo-byol-cpu": cpu.logo_byol_cpu,
    "logo-simclr-cpu": cpu.logo_simclr_cpu,
    "multi-crop-simclr-cpu": cpu.multi_crop_simclr_cpu,
    "supervised-imagenet": supervised.supervised_imagenet,
    "supervised-cifar": supervised.supervised_cifar,
    "supervised-cpu": cpu.supervised_cpu,
    "finetune-v1-imagenet": finetune.finetune_v1_imagenet,
    "finetune-v2-imagenet": finetune.finetune_v2_imagenet,
    "finetune-cpu": finetune.finetune_cpu,
}

FINETUNE_RECIPES: tuple[str, ...] = tuple(name for name in RECIPES if name.startswith("finetune-"))
"""The recipes of `coview finetune`, which start from a pretrained network."""

METHODS: tuple[str, ...] = tuple(name.replace("_", "-") for name in list_methods())
"""Every registered method, as the command line spells it."""


def recipe(name: str) -> Recipe:
    """The recipe ``name``. Raises UnknownName with the nearest known one.

    >>> recipe("simclr-imagenet").batch_size
    4096
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]()
