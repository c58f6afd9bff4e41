"""Complete, frozen descriptions of runs; every number with its source."""

from coview.recipes.build import build, precision_of
from coview.recipes.catalogue import METHODS, RECIPES, recipe
from coview.recipes.recipe import Recipe, change, for_classes, known_values

__all__ = [
    "METHODS", "RECIPES", "Recipe", "build", "change", "for_classes", "known_values",
    "precision_of", "recipe",
]  # fmt: skip
