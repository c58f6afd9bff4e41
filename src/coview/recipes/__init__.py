"""Complete, frozen descriptions of runs; every number with its source."""

from coview.recipes.catalogue import RECIPES, recipe
from coview.recipes.fitting import METHODS, batch_for, fitting, ladder
from coview.recipes.recipe import Recipe, change, for_classes, known_values

__all__ = [
    "METHODS", "RECIPES", "Recipe", "batch_for", "change", "fitting", "for_classes", "known_values",
    "ladder", "recipe",
]  # fmt: skip
