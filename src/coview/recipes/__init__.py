"""Complete, frozen descriptions of runs; every number with its source."""

from coview.recipes.build import Start, build, precision_of
from coview.recipes.catalogue import FINETUNE_RECIPES, METHODS, RECIPES, recipe
from coview.recipes.changes import apply_options, change, for_classes
from coview.recipes.recipe import KeptHead, Recipe, known_values

__all__ = [
    "FINETUNE_RECIPES", "METHODS", "RECIPES", "KeptHead", "Recipe", "Start", "apply_options",
    "build", "change", "for_classes", "known_values", "precision_of", "recipe",
]  # fmt: skip
