"""Complete, frozen descriptions of runs; every number with its source."""

from coview.methods import METHODS
from coview.recipes.build import Start, build, precision_of
from coview.recipes.catalogue import (
    RECIPES,
    find_recipe,
    finetune_recipes,
    list_recipes,
    recipe,
    recipe_of,
    register_recipe,
)
from coview.recipes.changes import apply_options, change, for_classes
from coview.recipes.recipe import KeptHead, Recipe, known_values

__all__ = [
    "METHODS", "RECIPES", "KeptHead", "Recipe", "Start", "apply_options",
    "build", "change", "find_recipe", "finetune_recipes", "for_classes", "known_values",
    "list_recipes", "precision_of", "recipe", "recipe_of", "register_recipe",
]  # fmt: skip
