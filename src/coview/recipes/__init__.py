"""Complete, frozen descriptions of runs; every number with its source."""

from coview.recipes.build import Start, build, precision_of
from coview.recipes.catalogue import (
    FINETUNE_RECIPES,
    METHODS,
    RECIPES,
    find_recipe,
    list_recipes,
    recipe,
)
from coview.recipes.changes import apply_options, change, for_classes
from coview.recipes.recipe import KeptHead, Recipe, known_values

__all__ = [
    "FINETUNE_RECIPES", "METHODS", "RECIPES", "KeptHead", "Recipe", "Start", "apply_options",
    "build", "change", "find_recipe", "for_classes", "known_values", "list_recipes",
    "precision_of", "recipe",
]  # fmt: skip
