"""A recipe with other settings: what the options of a run change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar, cast

from torch import nn

from coview.core.errors import CoviewError, InvalidValue, UnknownName
from coview.core.options import build_options
from coview.core.text import plural
from coview.core.values import parse_setting, set_fields
from coview.encoders import EncoderSpec, parse_encoder, remember_module
from coview.encoders.adapters import has_one_size
from coview.methods import logo, multi_crop
from coview.methods.set_objectives import CrossEntropy
from coview.options import RecipeOptions, TrainingOptions
from coview.recipes.recipe import DenseRecipe, Recipe, known_values
from coview.training import OptimizerSpec
from coview.training.optimizers import NAMES
from coview.views import ViewPlan, ViewSpec, jitter_of_strength
from coview.views.plan import Triple

Change = Callable[[Recipe, Any, TrainingOptions], Recipe]
AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def change(recipe: Recipe, **settings: Any) -> Recipe:
    """``recipe`` with settings of :class:`RecipeOptions` in place of its own.

    Raises InvalidValue or UnknownName.

    >>> from coview.recipes import recipe
    >>> change(recipe("simclr-cpu"), epochs=2, temperature=0.2).method.objective.temperature
    0.2
    """
    return apply_options(recipe, build_options(RecipeOptions, settings))


def apply_options(recipe: Recipe, options: TrainingOptions) -> Recipe:
    """``recipe`` with the settings of ``options`` in place of its own; fields that are None stay.

    An option that only another one, or a text of `set`, makes valid comes after it. Raises
    InvalidValue or UnknownName.

    >>> from coview.recipes import recipe
    >>> apply_options(recipe("simclr-cpu"), RecipeOptions(batch_size=64)).batch_size
    64
    """
    settings = options.settings()
    recipe = set_fields(recipe, {path: to for path, to in settings.items() if path not in CHANGES})
    steps = [
        partial(_with_option, name=name, value=value, options=options)
        for name, value in settings.items() if name in CHANGES
    ]  # fmt: skip
    if settings.keys() & {"with_encoder", "with_size"}:
        steps.append(partial(with_one_size))
    steps += [partial(_with_setting, text=text) for text in options.set]
    made = _in_turn(recipe, steps)
    if not (options.learning_rate is not None or options.sets("optimizer.learning_rate")):
        _refuse_old_rate(recipe.optimizer, made.optimizer)
    return made


def _refuse_old_rate(old: OptimizerSpec, new: OptimizerSpec) -> None:
    """Raise InvalidValue for another optimizer at the learning rate of the old one."""
    if new.name != old.name and new.learning_rate == old.learning_rate:
        raise InvalidValue(_needs_rate(old.name, new.name))


def _needs_rate(old: str, new: str) -> str:
    return (
        f"`optimizer` {new} replaces {old}, whose learning rate does not carry over; give "
        "`learning_rate` as well."
    )


def _in_turn(recipe: Recipe, steps: Sequence[Callable[[Recipe], Recipe]]) -> Recipe:
    """One step after the other; one that only another makes valid comes after it."""
    while steps:
        refused, errors = [], []
        for step in steps:
            try:
                recipe = step(recipe)
            except CoviewError as error:
                refused.append(step)
                errors.append(error)
        if len(refused) == len(steps):
            raise errors[0]
        steps = refused
    return recipe


def _with_option(recipe: Recipe, *, name: str, value: Any, options: TrainingOptions) -> Recipe:
    return CHANGES[name](recipe, value, options)


def _with_setting(recipe: Recipe, *, text: str) -> Recipe:
    """``recipe`` with a text of `set`."""
    path, value = parse_setting(recipe, text, known_values())
    return set_fields(recipe, {path: value})


def with_encoder(recipe: Recipe, encoder: Any, _: TrainingOptions) -> Recipe:
    """Another encoder: a short name, a specification, or a module of the user."""
    if isinstance(encoder, nn.Module):
        spec = EncoderSpec(kind="module", name=remember_module(encoder))
    else:
        spec = encoder if isinstance(encoder, EncoderSpec) else parse_encoder(str(encoder))
    return replace(recipe, encoder=spec)


def with_one_size(recipe: Recipe) -> Recipe:
    """``recipe`` with an encoder for the size of its views, where the encoder has one size."""
    encoder = recipe.encoder
    if encoder.kind == "resnet" or not has_one_size(encoder.kind, str(encoder.name)):
        return recipe
    return replace(recipe, encoder=replace(encoder, image_size=recipe.image_size))


def with_epochs(recipe: Recipe, epochs: float, options: TrainingOptions) -> Recipe:
    """A longer or shorter run; a shortened one keeps its warm-up to a tenth."""
    recipe = replace(recipe, epochs=epochs)  # refuses what is no number of epochs
    warmup = recipe.schedule.warmup_epochs
    if options.warmup_epochs is None:
        warmup = min(warmup, epochs / 10)
    return replace(recipe, schedule=replace(recipe.schedule, warmup_epochs=warmup))


def with_optimizer(recipe: Recipe, name: str, options: TrainingOptions) -> Recipe:
    """Another optimizer, whose learning rate must be given with it."""
    if name == recipe.optimizer.name:
        return recipe
    if name not in NAMES:
        raise UnknownName("optimizer", name, NAMES)
    if options.learning_rate is None:
        raise InvalidValue(_needs_rate(recipe.optimizer.name, name))
    decay = 0.0 if options.weight_decay is None else options.weight_decay
    spec = OptimizerSpec(
        name=cast(Any, name), learning_rate=options.learning_rate, scaling="none",
        weight_decay=decay,
    )  # fmt: skip
    return replace(recipe, optimizer=spec)


def with_learning_rate(recipe: Recipe, rate: float, _: TrainingOptions) -> Recipe:
    """The peak itself: it replaces the base and its scaling with the batch."""
    optimizer = replace(recipe.optimizer, learning_rate=rate, scaling="none")
    return replace(recipe, optimizer=optimizer)


def with_temperature(recipe: Recipe, value: float, _: TrainingOptions) -> Recipe:
    return _with_objective(recipe, "temperature", value)


def with_learned_temperature(recipe: Recipe, value: bool, _: TrainingOptions) -> Recipe:
    return _with_objective(recipe, "learn_temperature", value)


def _with_objective(recipe: Recipe, field: str, value: object) -> Recipe:
    method = recipe.method
    has = not isinstance(recipe, DenseRecipe) and field in {
        each.name for each in fields(cast(Any, method.objective))
    }
    if not has:
        raise InvalidValue(f"`{field}` has no effect on {method.name}: its objective has none.")
    objective = set_fields(method.objective, {field: value})
    return replace(recipe, method=replace(method, objective=cast(Any, objective)))


def with_size(recipe: Recipe, size: int, _: TrainingOptions) -> Recipe:
    """Views of another size; local views keep their share of it."""
    if size < 1:
        raise InvalidValue(f"`size` is {size}; expected 1 pixel or more.")
    first = recipe.image_size
    return _with_views(
        recipe, lambda view: replace(view, size=max(1, round(size * view.size / first)))
    )


def with_jitter_strength(recipe: Recipe, strength: float, _: TrainingOptions) -> Recipe:
    """SimCLR's color strength s (appendix A) in every view that has a color jitter."""
    views = recipe.method.views.views
    if not 0 <= strength < math.inf:
        raise InvalidValue(f"`jitter_strength` is {strength:g}; expected a number from 0 up.")
    if all(view.jitter is None for view in views):
        raise InvalidValue(
            f"`jitter_strength` has no effect on {recipe.method.name}: none of its views has a "
            "color jitter."
        )

    def changed(view: ViewSpec) -> ViewSpec:
        if view.jitter is None:
            return view
        jitter = replace(jitter_of_strength(strength), probability=view.jitter.probability)
        return replace(view, jitter=jitter)

    return _with_views(recipe, changed)


def _with_views(recipe: AnyRecipe, changed: Callable[[ViewSpec], ViewSpec]) -> AnyRecipe:
    views = ViewPlan(views=tuple(changed(view) for view in recipe.method.views.views))
    return replace(recipe, method=replace(recipe.method, views=views))


def with_frozen_batch_norm(recipe: Recipe, _: bool, options: TrainingOptions) -> Recipe:
    """The encoder's BatchNorm with its running statistics, which do not move."""
    return set_fields(recipe, {"method.batch_norm": "frozen"})


def with_normalization(recipe: AnyRecipe, mean: Triple | None, std: Triple | None) -> AnyRecipe:
    """Every view normalized with ``mean`` and ``std``, None for [0, 1]; the export records them."""
    return _with_views(recipe, lambda view: replace(view, mean=mean, std=std))


def with_input(
    recipe: AnyRecipe, *, size: int, mean: Triple | None, std: Triple | None
) -> AnyRecipe:
    """Every view with the size and the normalization of a network's images.

    >>> from coview.recipes import recipe
    >>> with_input(recipe("supervised-cpu"), size=24, mean=None, std=None).image_size
    24
    """
    return _with_views(recipe, lambda view: replace(view, size=size, mean=mean, std=std))


def with_local_crops(recipe: Recipe, count: int, options: Any) -> Recipe:
    """Multi-crop over the recipe's method; with an affinity LoGo adds the crops."""
    if options.affinity is not None:
        return recipe
    _require_two_views(recipe, "local_crops")
    return replace(recipe, method=multi_crop(recipe.method, locals=count))


def _require_two_views(recipe: Recipe, field: str) -> None:
    views = len(recipe.method.views.views)
    if views != 2:
        raise InvalidValue(
            f"`{field}` adds local crops to two views, and {recipe.name} has "
            f"{plural(views, 'view')} of each image; take it as it is, or a recipe of two views."
        )


def with_affinity(recipe: Recipe, affinity: str, options: Any) -> Recipe:
    _require_two_views(recipe, "affinity")
    count = 2 if options.local_crops is None else options.local_crops
    method = logo(recipe.method, locals=count, affinity=cast(Any, affinity))
    return replace(recipe, method=method)


def for_classes(recipe: Recipe, classes: int) -> Recipe:
    """``recipe`` with as many logits as there are classes, where its method has logits.

    >>> from coview.recipes import recipe
    >>> for_classes(recipe("supervised-cpu"), 37).method.head.output
    37
    """
    if not isinstance(recipe.method.objective, CrossEntropy):
        return recipe
    head = replace(recipe.method.head, output=classes)
    objective = replace(recipe.method.objective, classes=classes)
    return replace(recipe, method=replace(recipe.method, head=head, objective=objective))


CHANGES: dict[str, Change] = {
    function.__name__: function
    for function in (
        with_size, with_encoder, with_temperature, with_learned_temperature, with_jitter_strength,
        with_local_crops, with_affinity, with_frozen_batch_norm, with_epochs, with_optimizer,
        with_learning_rate,
    )
}  # fmt: skip
