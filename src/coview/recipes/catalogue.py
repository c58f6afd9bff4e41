"""All recipes by name."""

from __future__ import annotations

from collections.abc import Callable

from coview.core.errors import UnknownName
from coview.methods import list_methods
from coview.recipes import cpu, finetune, papers
from coview.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        papers.simclr_imagenet, papers.simclr_cifar, papers.simclr_photos, cpu.simclr_cpu,
        cpu.simclr_photos_cpu, cpu.simclr_demo, papers.simclr_v2_imagenet, papers.simclr_v2_cifar,
        cpu.simclr_v2_cpu, papers.supcon_imagenet, papers.supcon_cifar, cpu.supcon_cpu,
        papers.moco_imagenet, papers.moco_v1_imagenet, papers.moco_cifar, cpu.moco_cpu,
        papers.byol_imagenet, papers.byol_cifar, cpu.byol_cpu, papers.simsiam_imagenet,
        papers.simsiam_cifar, cpu.simsiam_cpu, papers.logo_moco_imagenet, papers.logo_moco_code,
        papers.logo_simsiam_imagenet, papers.logo_byol_imagenet, papers.logo_simclr_imagenet,
        papers.logo_moco_cifar, papers.logo_simsiam_cifar, cpu.logo_moco_cpu, cpu.logo_simsiam_cpu,
        cpu.logo_byol_cpu, cpu.logo_simclr_cpu, cpu.multi_crop_simclr_cpu,
        papers.supervised_imagenet, papers.supervised_cifar, cpu.supervised_cpu,
        finetune.finetune_v1_imagenet, finetune.finetune_v2_imagenet, finetune.finetune_cpu,
    )
}  # fmt: skip
"""Each function under its name with hyphens, in the order of the list of recipes."""

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
