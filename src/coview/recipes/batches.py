"""The batches of a recipe: which images each has, and the views that are rendered of them."""

from __future__ import annotations

import torch

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.recipes.recipe import Recipe
from coview.training import BatchLoader, ClassBalancedSampler
from coview.training.loader import Render, Rows
from coview.views import views_of


def make_loader(
    recipe: Recipe, store: ImageStore, device: torch.device, *, workers: int | None = None,
    ranks: Ranks = SINGLE_PROCESS, start: int = 0, total_steps: int | None = None,
) -> BatchLoader:  # fmt: skip
    """The batches from ``start`` up to ``total_steps``, without an end where that is None.

    ``workers`` None is one rendering thread on a CPU, which works beside the step, else up to
    eight. Raises DataError where the method needs labels and there are none.
    """
    if workers is None:
        workers = 1 if device.type == "cpu" else max(1, min(8, cores() - 1))
    supervised = recipe.method.needs_labels
    if supervised and store.labels is None:
        raise DataError(
            f"{recipe.method.name} learns from labels and these images have none; put each class "
            "into a folder of its own and give `labels_from` folders, or learn without them by "
            "simclr."
        )
    return BatchLoader(
        store.ids, store.labels if supervised else None, renderer(recipe, store),
        batch_size=recipe.batch_size, seed=recipe.seed, total_steps=total_steps, start_step=start,
        workers=workers, pin=device.type == "cuda", ranks=ranks,
        sampler=_class_balanced(recipe, store),
    )  # fmt: skip


def _class_balanced(recipe: Recipe, store: ImageStore) -> ClassBalancedSampler | None:
    """Batches of as many classes as the recipe says; None for batches drawn at random."""
    if recipe.classes_per_batch is None:
        return None
    if store.labels is None:
        raise DataError(
            "`classes_per_batch` needs labels and these images have none; put each class into a "
            "folder of its own and give `labels_from` folders."
        )
    classes = recipe.classes_per_batch
    return ClassBalancedSampler(
        store.ids, store.labels, classes=classes, images=recipe.batch_size // classes,
        seed=recipe.seed,
    )  # fmt: skip


def renderer(recipe: Recipe, store: ImageStore) -> Render:
    """(rows, ids, epoch) -> the views of the recipe; the ids are those of the rows."""
    plan, seed = recipe.method.views, recipe.seed

    def render(rows: Rows, ids: Rows, epoch: int) -> tuple[torch.Tensor, ...]:
        return views_of(store, rows, plan, seed=seed, epoch=epoch)

    return render
