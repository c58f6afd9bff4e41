"""What will be trained, how long it takes here, and why: said before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.core.text import duration
from coview.planning.defaults import batch_for, default_recipe, ladder
from coview.planning.memory import exactness, plan_passes
from coview.planning.speed import views_per_second
from coview.planning.text import about_method, about_precision, about_processes, about_the_run
from coview.recipes import METHODS, Recipe, change, for_classes, recipe

# Of the budget: rendering, health figures and the noise of the machine take the rest,
TRAINING_SHARE = 0.9
# and these seconds opening the data, judging and writing the report.
SECONDS_BESIDE = 15.0
# Passes over the data that a candidate must be able to make to be preferred over a smaller one: at
# 60 resnet18/4 caught up with resnet10/4, which had made half as many again (docs/lab/0003).
WANTED_EPOCHS = 60
MOST_EPOCHS = 400
# A run beyond this is announced together with what would fit.
LONG_SECONDS = 3 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A recipe for this data and this machine, with its reasons and its estimate."""

    recipe: Recipe
    reasons: tuple[str, ...]
    views_per_second: float
    seconds: float


def make_plan(
    store: ImageStore,
    asked: str | Recipe,
    *,
    device: torch.device,
    budget: float | None,
    changes: dict[str, object],
    world: int = 1,
) -> Plan:
    """The recipe ``asked`` for (or the one that fits, for a method's name) with the user's changes.

    ``store`` holds the training images, ``budget`` seconds. Measures a few steps, and how much of a
    batch fits into memory. Raises InvalidValue where the batch does not fit the images, UnknownName
    for an unknown recipe.
    """
    side = int(np.median(np.minimum(store.heights, store.widths)))
    if isinstance(size := changes.get("size"), int):
        side = min(side, size)
    fixed = isinstance(asked, Recipe) or asked not in METHODS
    if isinstance(asked, Recipe):
        base = asked
    elif fixed:
        base = recipe(asked)
    else:
        base = default_recipe(asked, side=side, images=len(store), device=device.type)
    base = for_classes(change(base, **changes), len(store.class_names))  # type: ignore[arg-type]
    if changes.get("batch") is None:
        base = replace(base, batch_size=batch_for(len(store), base))
    check_batch(base, len(store))
    if budget is None:
        suits = f"suits these images on the {device.type}"
        why = "as asked" if changes.get("encoder") else "as the recipe says" if fixed else suits
        return _without_budget(base, store, device, world, why)
    return _within(base, store, side, device, budget, changes, world, fixed=fixed)


def check_batch(recipe: Recipe, images: int) -> None:
    """Raise InvalidValue where a batch cannot be drawn from the training images."""
    if recipe.batch_size > images:
        raise InvalidValue(
            f"--batch {recipe.batch_size:,} does not fit: {images:,} images are left for training "
            f"after holding some out; use --batch {images} or fewer."
        )


def _without_budget(
    recipe: Recipe, store: ImageStore, device: torch.device, world: int, why: str
) -> Plan:
    recipe, fits = in_memory(recipe, device, world)
    rate = world * views_per_second(recipe, device, most_images=share_of(recipe, world))
    seconds = _views(recipe, len(store)) / rate
    reasons = [
        about_method(recipe),
        f"{recipe.encoder.label()} at {recipe.image_size} px: {why}.",
        *fits,
        *about_precision(recipe, device),
        *about_processes(recipe, world),
        *about_the_run(recipe, store, rate, seconds),
    ]
    if seconds > LONG_SECONDS:
        reasons.append(
            f"That is long. --budget 30m or --budget 2h chooses a network, a size and epochs that "
            f"fit; --epochs {max(1, round(recipe.epochs * LONG_SECONDS / seconds))} of this one "
            f"takes {duration(LONG_SECONDS)}."
        )
    return Plan(recipe=recipe, reasons=tuple(reasons), views_per_second=rate, seconds=seconds)


def _within(
    base: Recipe,
    store: ImageStore,
    side: int,
    device: torch.device,
    budget: float,
    changes: dict[str, object],
    world: int,
    *,
    fixed: bool,
) -> Plan:
    seconds = TRAINING_SHARE * max(budget - SECONDS_BESIDE, 0.0)
    if seconds == 0:
        raise InvalidValue(
            f"A budget of {duration(budget)} is too short: about {duration(SECONDS_BESIDE)} go to "
            "opening the data, judging and the report; give a longer --budget."
        )
    tried: list[str] = []
    asked = changes.get("epochs")
    wanted = asked if isinstance(asked, (int, float)) else WANTED_EPOCHS
    for candidate in [base] if fixed else _candidates(base, side, device, changes):
        candidate, fits = in_memory(candidate, device, world)
        rate = world * views_per_second(candidate, device, most_images=share_of(candidate, world))
        epochs = seconds * rate / _views(replace(candidate, epochs=1), len(store))
        name = f"{candidate.encoder.label()} at {candidate.image_size} px"
        roomy = epochs >= wanted
        if roomy:
            break
        tried.append(f"{name} would make {epochs:.1f} epochs")
    epochs = min(epochs, MOST_EPOCHS) if asked is None else candidate.epochs
    least = 2 * candidate.batch_size / len(store)
    if epochs < least:
        raise InvalidValue(
            f"{duration(budget)} is too short here for even two steps of {name}; give a longer "
            "--budget, or a smaller --batch or --encoder."
        )
    chosen = change(candidate, epochs=round(epochs, 2))
    if changes.get("warmup_epochs") is not None:
        chosen = replace(chosen, schedule=candidate.schedule)
    seconds = _views(chosen, len(store)) / rate
    if fixed and asked is None:
        why = "as the recipe says, with the epochs that fit"
    elif fixed:
        why = "as the recipe says"
    elif roomy:
        why = f"the largest of the candidates that makes {wanted:g} epochs"
    else:
        why = f"the fastest candidate, and a short time for {len(store):,} images"
    reasons = [
        about_method(chosen),
        f"{name}: {why} in {duration(budget)}.",
        *([f"--epochs {asked:g} is kept, whatever the budget leaves room for."] if asked else []),
        *fits,
        *(f"Passed over: {text}." for text in tried if not text.startswith(name)),
        *about_precision(chosen, device),
        *about_processes(chosen, world),
        *about_the_run(chosen, store, rate, seconds),
    ]
    return Plan(recipe=chosen, reasons=tuple(reasons), views_per_second=rate, seconds=seconds)


def share_of(recipe: Recipe, world: int) -> int:
    """The most images that a process of ``world`` has in a step."""
    return -(-recipe.batch_size // world)


def in_memory(recipe: Recipe, device: torch.device, world: int) -> tuple[Recipe, list[str]]:
    """The recipe with passes that fit into memory, and what there is to say of them.

    Each of ``world`` processes holds its part of a batch.
    """
    share = share_of(recipe, world)
    asked, sentences = recipe.passes.micro_batch, []
    if asked is not None and asked >= share:
        recipe = replace(recipe, passes=replace(recipe.passes, micro_batch=None))
        sentences = [f"--micro-batch {asked} has no effect: the batch is of {share} images."]
    passes, sentence = plan_passes(recipe, device, images=share)
    if not sentence and passes.micro_batch is not None:
        sentence = f"As asked: {exactness(recipe, share, passes.micro_batch)}"
    return replace(recipe, passes=passes), [*sentences, *filter(None, [sentence])]


def _candidates(
    base: Recipe, side: int, device: torch.device, changes: dict[str, object]
) -> Iterator[Recipe]:
    """From the most to the least demanding; what the user has set stays."""
    for encoder, size in ladder(device.type, side):
        yield change(
            base,
            size=size if changes.get("size") is None else None,
            encoder=encoder if changes.get("encoder") is None else None,
        )


def _views(recipe: Recipe, images: int) -> float:
    return recipe.total_steps(images) * recipe.batch_size * len(recipe.method.views.views)
