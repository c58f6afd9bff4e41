"""How fast this machine trains a recipe: measured, not guessed."""

from __future__ import annotations

import time

import torch

from coview.core.batches import Batch
from coview.methods import Learner
from coview.recipes import Recipe
from coview.recipes.build import build, precision_of
from coview.training.precision import Precision
from coview.training.step import memory_errors

SMALLEST, ENOUGH_SECONDS, STEPS = 8, 0.4, 2


def views_per_second(recipe: Recipe, device: torch.device, *, most_images: int) -> float:
    """Views that forward and backward pass through the recipe's network in a second.

    Tries batches of 8, 32, 128 ... images until a step takes long enough to be trusted or the
    recipe's batch is reached, so that a network far too large for this machine costs one small
    step. Raises InvalidValue where a batch does not fit into memory.
    Rendering is not counted: it runs beside the step and takes a few per cent of it.
    """
    learner = build(recipe)
    precision = precision_of(recipe, learner, device)
    precision.prepare(learner)
    images, rate = SMALLEST, 0.0
    while True:
        images = max(2, min(images, recipe.batch_size, most_images))
        batch = precision.place(example_batch(recipe, images))
        with memory_errors(images, device):
            seconds = min(_step(learner, batch, precision) for _ in range(STEPS))
        rate = images * len(batch.views) / seconds
        if seconds > ENOUGH_SECONDS or images in (recipe.batch_size, most_images):
            return rate
        images *= 4


def example_batch(recipe: Recipe, images: int) -> Batch:
    """Noise in place of the recipe's views of so many images, with two labels; on the CPU."""
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.rand(images, 3, spec.size, spec.size, generator=generator)
        for spec in recipe.method.views.views
    )
    ids = torch.arange(images)
    return Batch(step=0, epoch=0, views=views, ids=ids, labels=ids % 2)


def _step(learner: Learner, batch: Batch, precision: Precision) -> float:
    start = time.perf_counter()
    with precision.autocast():
        loss = torch.stack(list(learner.loss(batch, 0).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    if precision.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
