"""The batches of a recipe: which images each has, and the views that are rendered of them."""

from __future__ import annotations

import torch

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.data.annotations import AnnotatedStore
from coview.dense import Detector, Segmenter
from coview.dense.inputs import render_maps, render_objects
from coview.recipes.recipe import DenseRecipe, Recipe
from coview.training import BatchLoader, ClassBalancedSampler
from coview.training.loader import Render, Rows
from coview.views import render_device, views_of


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
    if isinstance(recipe, DenseRecipe):
        return BatchLoader(
            store.ids, None, dense_renderer(recipe, store), batch_size=recipe.batch_size,
            seed=recipe.seed, total_steps=total_steps, start_step=start, workers=workers,
            pin=device.type == "cuda", ranks=ranks,
        )  # fmt: skip
    supervised = recipe.method.needs_labels
    if supervised and store.labels is None:
        raise DataError(
            f"{recipe.method.name} learns from labels and these images have none; put each class "
            "into a folder of its own and give `labels_from` folders, or learn without them by "
            "simclr."
        )
    return BatchLoader(
        store.ids, store.labels if supervised else None,
        renderer(recipe, store, render_device(device)),
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


def dense_renderer(recipe: DenseRecipe, store: ImageStore) -> Render:
    """(rows, ids, epoch) -> whole images and their objects, or squares and their label maps."""
    if not isinstance(store, AnnotatedStore):
        raise DataError(
            f"{store.source} has no boxes and no label maps, which {recipe.name} needs."
        )
    method, seed = recipe.method, recipe.seed

    def render(rows: Rows, ids: Rows, epoch: int) -> tuple[torch.Tensor, ...]:
        if isinstance(method, Detector):
            return render_objects(store, rows, method, seed=seed, epoch=epoch)
        assert isinstance(method, Segmenter)
        return render_maps(store, rows, method, seed=seed, epoch=epoch)

    return render


def renderer(recipe: Recipe, store: ImageStore, device: torch.device) -> Render:
    """(rows, ids, epoch) -> the views of the recipe, rendered on ``device``; the ids are those of
    the rows."""
    plan, seed = recipe.method.views, recipe.seed

    def render(rows: Rows, ids: Rows, epoch: int) -> tuple[torch.Tensor, ...]:
        return views_of(store, rows, plan, seed=seed, epoch=epoch, device=device)

    return render
