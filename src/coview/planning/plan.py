"""What will be trained, how long it takes here, and why: said before the first step.

A recipe given as a value is trained exactly as it is, or refused. Of a recipe given by name, or of
a method's name, what the user has not set is chosen to fit, and the plan says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.methods.set_objectives import CrossEntropy
from coview.options import RecipeOptions, TrainingOptions
from coview.planning.defaults import (
    batch_for,
    default_recipe,
    unfitted_recipe,
    with_fitting_queue,
    with_several_groups,
)
from coview.planning.planner import Plan, Planner
from coview.planning.text import about_defaults, about_options, about_queue
from coview.recipes import METHODS, DenseRecipe, Recipe, apply_options, for_classes, recipe

TRIAL_SIDE, TRIAL_IMAGES = 32, 10_000
"""The images that settings are tried on before any are opened."""


def make_plan(
    planner: Planner, base: str | Recipe, options: RecipeOptions, *, encoder_is: str = "as asked",
    images: int | None = None,
) -> Plan:  # fmt: skip
    """The plan of a pretraining run.

    ``base``: a recipe as a value or by name, or a method's name, for which everything is chosen.
    ``encoder_is``: why ``options.encoder`` is what it is. ``images``: the number that settings are
    chosen for, by default that of the training images, which varies with the seed that holds images
    out.
    Measures some steps, and how much of a batch fits into memory. Raises InvalidValue where the
    batch does not fit the images, UnknownName for an unknown recipe.
    """
    store, budget, device = planner.store, planner.budget, planner.device
    images = len(store) if images is None else images
    if options.size is not None:
        planner = replace(planner, side=min(planner.side, options.size))
    if isinstance(base, Recipe):
        return plan_exactly(planner, base, options)
    named = base not in METHODS
    start = recipe(base) if named else unfitted_recipe(
        base, side=planner.side, images=images, device=device.type
    )  # fmt: skip
    fitted = for_classes(apply_options(start, options), len(store.class_names))
    notes = tuple(about_options(start, fitted, options))
    if options.batch_size is None:
        batch = batch_for(images, fitted)
        if batch < fitted.batch_size and named:
            notes += (
                f"Batch {batch} in place of the recipe's {fitted.batch_size}, so that an epoch of "
                f"{len(store):,} images has a few steps; `batch_size` sets it.",
            )
        fitted = replace(fitted, batch_size=batch)
    fitted, others = fit_to_batch(fitted, options, images, named=named)
    notes += others
    if budget is not None and not named:
        plan = planner.plan_ladder(fitted, options, encoder_is)
        return plan.with_notes(*notes)
    suits = f"suits these images on the {device.type}"
    why = encoder_is if options.encoder else "as the recipe says" if named else suits
    if budget is not None and options.epochs is None:
        why = "as the recipe says, with the epochs that fit"
    plan = planner.plan(fitted, options, why=why, exact=False)
    return plan.with_notes(*notes)


def fit_to_batch(
    wanted: Recipe, options: RecipeOptions, images: int, *, named: bool
) -> tuple[Recipe, tuple[str, ...]]:
    """``wanted`` with what hangs on its batch and on ``images``, unless `set` says it; notes of it.

    The queue, and for a method (not ``named``) the ghost batches: those of a recipe by name, and
    the figures that go with them, are its paper's.
    """
    fitted = wanted
    if not options.sets("method.memory.length"):
        fitted = with_fitting_queue(fitted, images)
    if named:
        return fitted, () if fitted == wanted else (about_queue(fitted, before=wanted),)
    if not options.sets("method.ghost_batch_size"):
        fitted = with_several_groups(fitted)
    return fitted, tuple(about_defaults(fitted, images))


def check_settings(base: str | Recipe, options: RecipeOptions, device: str) -> Recipe:
    """Refuse the settings that fit no images, before images are opened.

    Returns the recipe that some images would have. Raises InvalidValue or UnknownName as
    :func:`make_plan`.
    """
    if isinstance(base, str) and base in METHODS:
        # How large a batch will be, which the number of classes must divide, is not known yet.
        options = replace(options, classes_per_batch=None)
        side = min(options.size or TRIAL_SIDE, TRIAL_SIDE)
        base = default_recipe(base, side=max(1, side), images=TRIAL_IMAGES, device=device)
    return apply_options(recipe(base) if isinstance(base, str) else base, options)


def make_finetuning_plan(
    planner: Planner, base: Recipe, options: TrainingOptions, *, exact: bool
) -> Plan:
    """The plan of fine-tuning; of two trainings the other one is of the network from scratch.

    ``exact``: ``base`` is the user's own value, which is trained as it is or refused.
    """
    if exact:
        return plan_exactly(planner, base, options)
    fitted, notes = _fitted(planner.store, base, options)
    planner = replace(planner, max_epochs=fitted.epochs)  # more of them would only overfit
    layer = 0 if fitted.kept_head is None else fitted.kept_head.layers
    plan = planner.plan(fitted, options, why="the pretrained network", exact=False)
    start = (
        f"The classifier stands on layer {layer} of the projection head"
        if layer
        else "The classifier stands on h, the encoder's output"
    )
    twice = (
        ", and the same network is trained from scratch beside it" if planner.whole_runs > 1 else ""
    )
    return plan.with_notes(*notes, f"{start}{twice}.")


def make_detection_plan(
    planner: Planner, base: DenseRecipe, options: TrainingOptions, *, exact: bool
) -> Plan:
    """The plan of learning boxes or label maps; see :func:`make_finetuning_plan`."""
    if exact:
        return plan_exactly(planner, base, options)
    recipe = apply_options(base, options)
    assert isinstance(recipe, DenseRecipe)
    notes = tuple(about_options(base, recipe, options))
    most = max(2, planner.images // 4)  # so that an epoch has a few steps
    if options.batch_size is None and recipe.batch_size > most:
        notes += (f"Batch {most} in place of the recipe's {recipe.batch_size}: few images.",)
        recipe = replace(recipe, batch_size=most)
    plan = planner.plan(recipe, options, why="the network of the start", exact=False)
    if planner.whole_runs > 1:
        notes += ("The same network is trained from scratch beside it.",)
    return plan.with_notes(*notes)


def make_distillation_plan(
    planner: Planner, base: Recipe, options: TrainingOptions, *, exact: bool,
    notes: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    """The plan of distillation, whose teacher ``planner`` sets. ``notes`` come before its own.

    ``exact``: ``base`` is the user's own value.
    """
    if exact:
        return plan_exactly(planner, base, options)
    fitted, others = _fitted(planner.store, base, options)
    plan = planner.plan(fitted, options, why="the student", exact=False)
    return plan.with_notes(*notes, *others)


def _fitted(
    store: ImageStore, base: Recipe, options: TrainingOptions
) -> tuple[Recipe, tuple[str, ...]]:
    """``base`` with the options, for the classes of ``store`` and its few images; notes of it."""
    fitted = for_classes(apply_options(base, options), len(store.class_names))
    notes = tuple(about_options(base, fitted, options))
    if options.batch_size is None:
        batch = min(batch_for(len(store), fitted), len(store))
        if batch < fitted.batch_size:
            notes += (f"Batch {batch} in place of the recipe's {fitted.batch_size}: few images.",)
        fitted = replace(fitted, batch_size=batch)
    return fitted, notes


def plan_exactly(planner: Planner, base: Recipe, options: TrainingOptions) -> Plan:
    """The plan of a recipe given as a value, with the options beside it. Raises InvalidValue."""
    recipe = exact_recipe(apply_options(base, options), planner.store, planner.budget)
    plan = planner.plan(recipe, options, why="as the recipe says", exact=True)
    return plan.with_notes(*about_options(base, recipe, options))


def exact_recipe(recipe: Recipe, store: ImageStore, budget: float | None) -> Recipe:
    """``recipe`` itself. Raises InvalidValue where it cannot be trained exactly as it is."""
    if budget is not None:
        raise InvalidValue(
            "A recipe given as a value is trained as it is, with its own epochs, so that `budget` "
            "does not go with it; give one of them."
        )
    objective = None if isinstance(recipe, DenseRecipe) else recipe.method.objective
    if isinstance(objective, CrossEntropy) and objective.classes != len(store.class_names):
        raise InvalidValue(
            f"The recipe has {objective.classes} classes and the images have "
            f"{len(store.class_names)}; give coview.recipes.for_classes(recipe, "
            f"{len(store.class_names)})."
        )
    return recipe


def typical_side(store: ImageStore) -> int:
    """The median of the shorter sides, in pixels."""
    return int(np.median(np.minimum(store.heights, store.widths)))
