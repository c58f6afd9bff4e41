"""Complete, frozen descriptions of runs; every number with its source."""

from __future__ import annotations

from collections.abc import Callable

from coview.core.errors import UnknownName
from coview.recipes.cpu import simclr_cpu, simclr_demo
from coview.recipes.fitting import METHODS, batch_for, fitting, ladder
from coview.recipes.recipe import VALUES, Recipe, change
from coview.recipes.simclr import simclr_cifar, simclr_imagenet, simclr_photos
from coview.recipes.supcon import supcon_cifar, supcon_cpu

__all__ = [
    "METHODS", "RECIPES", "VALUES", "Recipe", "batch_for", "change", "fitting", "ladder", "recipe",
]  # fmt: skip

RECIPES: dict[str, Callable[[], Recipe]] = {
    "simclr-imagenet": simclr_imagenet,
    "simclr-cifar": simclr_cifar,
    "simclr-photos": simclr_photos,
    "simclr-cpu": simclr_cpu,
    "simclr-demo": simclr_demo,
    "supcon-cifar": supcon_cifar,
    "supcon-cpu": supcon_cpu,
}


def recipe(name: str) -> Recipe:
    """The recipe ``name``. Raises UnknownName with the nearest known one."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]()
