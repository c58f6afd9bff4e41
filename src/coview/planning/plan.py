"""What will be trained, how long it takes here, and why: said before the first step.

A recipe given as a value is trained exactly as it is, or refused. Of a recipe given by name, or of
a method's name, what the user has not set is chosen to fit, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.text import duration
from coview.methods import Passes
from coview.methods.set_objectives import CrossEntropy
from coview.options import RecipeOptions, TrainingOptions
from coview.planning.defaults import batch_for, default_recipe, ladder
from coview.planning.memory import exactness, plan_passes, usable_bytes
from coview.planning.text import about_method, about_precision, about_processes, about_the_run
from coview.planning.trial import Trial
from coview.recipes import METHODS, Recipe, apply_options, change, for_classes, recipe

# Of the budget: rendering, health figures and the noise of the machine take the rest,
TRAINING_SHARE = 0.9
# and these seconds opening the data, evaluating and writing the report.
SECONDS_BESIDE = 15.0
# Passes over the data that a candidate must be able to make to be preferred over a smaller one: at
# 60 resnet18/4 caught up with resnet10/4, which had made half as many again (docs/lab/0003).
WANTED_EPOCHS = 60
MAX_EPOCHS = 400
# A run beyond this is announced together with what would fit.
LONG_SECONDS = 3 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe for this data and this machine, with notes that explain it and its estimate."""

    recipe: Recipe
    notes: tuple[str, ...]
    views_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What every plan of one run depends on.

    images: the training images. side: their usual short side in pixels. budget: seconds, or None.
    world: the processes that share each batch. whole_runs: trainings of the recipe that the run
    makes (fine-tuning makes another from scratch).
    """

    images: int
    side: int
    device: torch.device
    budget: float | None = None
    world: int = 1
    whole_runs: int = 1
    max_epochs: float = MAX_EPOCHS

    def plan(self, recipe: Recipe, options: TrainingOptions, *, why: str, exact: bool) -> Plan:
        """The plan of one recipe; with a budget its epochs are those that fit.

        ``why`` ends the sentence about the encoder. ``exact``: the recipe is not adapted to memory.
        Raises InvalidValue where the batch does not fit the images or the memory.
        """
        check_batch(recipe, self.images)
        if self.budget is None:
            return self._without_budget(recipe, why, exact)
        return self._within_budget([recipe], options, lambda wanted, fits: why, exact)

    def plan_ladder(self, base: Recipe, options: RecipeOptions) -> Plan:
        """Within a budget: the largest (encoder, size) of the ladder that makes enough epochs."""
        check_batch(base, self.images)
        steps = ladder(self.device.type, self.side)
        candidates = (
            apply_options(
                base,
                RecipeOptions(
                    size=None if options.size else size,
                    encoder=None if options.encoder else encoder,
                ),
            )
            for encoder, size in steps
        )

        def why(wanted: str, fits: bool) -> str:
            if fits:
                return f"the largest of the candidates that makes {wanted} epochs"
            return f"the fastest candidate, and a short time for {self.images:,} images"

        return self._within_budget(candidates, options, why, exact=False)

    def _without_budget(self, recipe: Recipe, why: str, exact: bool) -> Plan:
        trial = Trial(recipe, self.device)
        recipe, notes = fit_memory(trial, self.world, exact=exact)
        rate, seconds = self._speed(trial, recipe)
        lines = [f"{recipe.encoder.label()} at {recipe.image_size} px: {why}.", *notes]
        plan = self._plan(trial, recipe, lines, rate, seconds)
        if seconds <= LONG_SECONDS:
            return plan
        epochs = max(1, round(recipe.epochs * LONG_SECONDS / seconds))
        long = (
            "That is long. `budget` 30m or `budget` 2h chooses a network, a size and epochs that "
            f"fit; `epochs` {epochs} of this one takes {duration(LONG_SECONDS)}."
        )
        return replace(plan, notes=(*plan.notes, long))

    def _within_budget(
        self, candidates: Iterable[Recipe], options: TrainingOptions,
        why: Callable[[str, bool], str], exact: bool,
    ) -> Plan:  # fmt: skip
        assert self.budget is not None
        available = TRAINING_SHARE * max(self.budget - SECONDS_BESIDE, 0.0)
        if available == 0:
            raise InvalidValue(
                f"A budget of {duration(self.budget)} is too short: about "
                f"{duration(SECONDS_BESIDE)} go to opening the data, evaluation and the report; "
                "give a longer `budget`."
            )
        passed_over: list[str] = []
        wanted = options.epochs or WANTED_EPOCHS
        for candidate in candidates:
            trial = Trial(candidate, self.device)
            fitted, notes = fit_memory(trial, self.world, exact=exact)
            rate, per_epoch = self._speed(trial, replace(fitted, epochs=1))
            epochs = available / per_epoch
            name = f"{fitted.encoder.label()} at {fitted.image_size} px"
            fits = epochs >= wanted
            if fits:
                break
            passed_over.append(f"{name} would make {epochs:.1f} epochs")
        if options.epochs is not None:
            epochs = fitted.epochs
        epochs = min(epochs, self.max_epochs)
        if epochs < 2 * fitted.batch_size / self.images:
            raise InvalidValue(
                f"{duration(self.budget)} is too short here for even two steps of {name}; give a "
                "longer `budget`, or a smaller `batch_size` or `encoder`."
            )
        chosen = change(fitted, epochs=round(epochs, 2))
        if options.warmup_epochs is not None:
            chosen = replace(chosen, schedule=fitted.schedule)
        lines = [
            f"{name}: {why(f'{wanted:g}', fits)} in {duration(self.budget)}.",
            *([f"`epochs` {options.epochs:g} is kept, although a budget is given."]
              if options.epochs else []),
            *notes,
            *(f"Too slow: {text}." for text in passed_over if not text.startswith(name)),
        ]  # fmt: skip
        return self._plan(trial, chosen, lines, rate, per_epoch * chosen.epochs)

    def _speed(self, trial: Trial, recipe: Recipe) -> tuple[float, float]:
        """(views per second of all processes, seconds of the whole run)."""
        most = share_of(recipe, self.world)
        rate = self.world * trial.views_per_second(most_images=most, passes=recipe.passes)
        views = recipe.total_steps(self.images) * recipe.batch_size
        views *= len(recipe.method.views.views) * self.whole_runs
        return rate, views / rate

    def _plan(
        self, trial: Trial, recipe: Recipe, lines: list[str], rate: float, seconds: float
    ) -> Plan:
        notes = (
            about_method(recipe), *lines, *about_precision(recipe, trial.precision),
            *about_processes(recipe, self.world),
            *about_the_run(recipe, self.images, rate, seconds),
        )  # fmt: skip
        return Plan(recipe=recipe, notes=notes, views_per_second=rate, seconds=seconds)


def make_plan(
    store: ImageStore, base: str | Recipe, options: RecipeOptions, *, device: torch.device,
    budget: float | None = None, world: int = 1,
) -> Plan:  # fmt: skip
    """The plan of a pretraining run on the training images of ``store``.

    ``base``: a recipe as a value or by name, or a method's name, for which everything is chosen.
    ``budget``: seconds. Measures a few steps, and how much of a batch fits into memory. Raises
    InvalidValue where the batch does not fit the images, UnknownName for an unknown recipe.
    """
    side = typical_side(store)
    if options.size is not None:
        side = min(side, options.size)
    planner = Planner(images=len(store), side=side, device=device, budget=budget, world=world)
    if isinstance(base, Recipe):
        exact = exact_recipe(apply_options(base, options), store, budget)
        return planner.plan(exact, options, why="as the recipe says", exact=True)
    named = base not in METHODS
    start = recipe(base) if named else default_recipe(
        base, side=side, images=len(store), device=device.type
    )  # fmt: skip
    fitted = for_classes(apply_options(start, options), len(store.class_names))
    notes: tuple[str, ...] = ()
    if options.batch_size is None:
        batch = batch_for(len(store), fitted)
        if batch < fitted.batch_size and named:
            notes = (
                f"Batch {batch} in place of the recipe's {fitted.batch_size}, so that an epoch of "
                f"{len(store):,} images has a few steps; `batch_size` sets it.",
            )
        fitted = replace(fitted, batch_size=batch)
    if budget is not None and not named:
        return planner.plan_ladder(fitted, options)
    suits = f"suits these images on the {device.type}"
    why = "as asked" if options.encoder else "as the recipe says" if named else suits
    if budget is not None and options.epochs is None:
        why = "as the recipe says, with the epochs that fit"
    plan = planner.plan(fitted, options, why=why, exact=False)
    return replace(plan, notes=(*plan.notes, *notes))


def make_finetuning_plan(
    store: ImageStore, base: Recipe, options: TrainingOptions, *, device: torch.device,
    budget: float | None, world: int, trainings: int, exact: bool,
) -> Plan:  # fmt: skip
    """The plan of fine-tuning on the training images of ``store``.

    ``trainings``: 2 where the same network is trained from scratch as well. ``exact``: ``base`` is
    the user's own value, which is trained as it is or refused.
    """
    planner = Planner(
        images=len(store), side=typical_side(store), device=device, budget=budget, world=world,
        whole_runs=trainings,
    )  # fmt: skip
    if exact:
        recipe = exact_recipe(apply_options(base, options), store, budget)
        return planner.plan(recipe, options, why="as the recipe says", exact=True)
    fitted = for_classes(apply_options(base, options), len(store.class_names))
    notes: tuple[str, ...] = ()
    if options.batch_size is None:
        batch = min(batch_for(len(store), fitted), len(store))
        if batch < fitted.batch_size:
            notes = (f"Batch {batch} in place of the recipe's {fitted.batch_size}: few images.",)
        fitted = replace(fitted, batch_size=batch)
    planner = replace(planner, max_epochs=fitted.epochs)  # more of them would only overfit
    layer = 0 if fitted.kept_head is None else fitted.kept_head.layers
    plan = planner.plan(fitted, options, why="the pretrained network", exact=False)
    start = (
        f"The classifier stands on layer {layer} of the projection head"
        if layer
        else "The classifier stands on h, the encoder's output"
    )
    twice = ", and the same network is trained from scratch beside it" if trainings > 1 else ""
    return replace(plan, notes=(*plan.notes, *notes, f"{start}{twice}."))


def exact_recipe(recipe: Recipe, store: ImageStore, budget: float | None) -> Recipe:
    """``recipe`` itself. Raises InvalidValue where it cannot be trained exactly as it is."""
    if budget is not None:
        raise InvalidValue(
            "A recipe given as a value is trained as it is, with its own epochs, so that `budget` "
            "does not go with it; give one of them."
        )
    objective = recipe.method.objective
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


def check_batch(recipe: Recipe, images: int) -> None:
    """Raise InvalidValue where a batch cannot be drawn from the training images."""
    if recipe.batch_size > images:
        raise InvalidValue(
            f"`batch_size` {recipe.batch_size:,} does not fit: {images:,} images are left for "
            f"training after holding some out; use `batch_size` {images} or fewer."
        )


def share_of(recipe: Recipe, world: int) -> int:
    """The most images that a process of ``world`` has in a step."""
    return -(-recipe.batch_size // world)


def fit_memory(trial: Trial, world: int, *, exact: bool = False) -> tuple[Recipe, tuple[str, ...]]:
    """The trial's recipe with passes that fit into memory, and notes about them.

    Each of ``world`` processes holds its part of a batch. ``exact``: raise InvalidValue where the
    recipe's own passes do not fit.
    """
    recipe, share = trial.recipe, share_of(trial.recipe, world)
    micro_batch, notes = recipe.passes.micro_batch, []
    if not exact and micro_batch is not None and micro_batch >= share:
        recipe = replace(recipe, passes=replace(recipe.passes, micro_batch=None))
        notes.append(f"`micro_batch` {micro_batch} has no effect: the batch is of {share} images.")
    if recipe.passes != Passes():
        passes, note = recipe.passes, ""
    else:
        passes, note = plan_passes(recipe, trial.memory, usable_bytes(trial.device), images=share)
    if exact and passes != recipe.passes:
        raise InvalidValue(
            f"{note} A recipe given as a value is not changed: set its passes to {passes}."
        )
    if not note and passes.micro_batch is not None:
        note = f"As asked: {exactness(recipe, share, passes.micro_batch)}"
    return replace(recipe, passes=passes), (*notes, *filter(None, [note]))
