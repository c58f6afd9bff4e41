"""Complete, frozen descriptions of runs; every number with its source."""

from coview.methods import METHODS
from coview.recipes.build import Start, build, build_task, precision_of
from coview.recipes.catalogue import (
    RECIPES,
    detection_recipes,
    distill_recipes,
    find_recipe,
    finetune_recipes,
    list_recipes,
    recipe,
    recipe_of,
    refuse_dense,
    register_recipe,
)
from coview.recipes.changes import apply_options, change, for_classes
from coview.recipes.recipe import DenseRecipe, KeptHead, Recipe, known_values

__all__ = [
    "METHODS",
    "RECIPES",
    "DenseRecipe",
    "KeptHead",
    "Recipe",
    "Start",
    "apply_options",
    "build",
    "build_task",
    "change",
    "detection_recipes",
    "distill_recipes",
    "find_recipe",
    "finetune_recipes",
    "for_classes",
    "known_values",
    "list_recipes",
    "precision_of",
    "recipe",
    "recipe_of",
    "refuse_dense",
    "register_recipe",
]  # fmt: skip
