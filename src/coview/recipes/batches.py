"""The batches of a recipe: which images each has, and the views that are rendered of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.core.machine import cores, memory_bytes, sharing
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.text import byte_size, plural
from coview.data.annotations import AnnotatedStore
from coview.dense import Detector, Segmenter
from coview.dense.inputs import render_maps, render_objects
from coview.recipes.recipe import DenseRecipe, Recipe
from coview.training import BatchLoader, ClassBalancedSampler
from coview.training.loader import Render, Rows
from coview.views import render_device, views_of

MOST_WORKERS = 8
HOST_SHARE = 0.5
"""Of the machine's memory, which rendered batches may fill; decoded images take a quarter."""
FLOAT32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderAhead:
    """``workers`` threads render at most ``ahead`` batches in advance. ``note``: why so few, in a
    sentence; "" where nothing was lowered."""

    workers: int
    ahead: int
    note: str = ""


def render_ahead(
    recipe: Recipe, device: torch.device, workers: int | None = None, world: int = 1
) -> RenderAhead:
    """How the batches of a process of ``world`` are rendered for a network on ``device``.

    ``workers`` that are given stay. Else it is one thread on a CPU, and beside a GPU one for each
    core that this process has besides its own, at most eight; fewer where the batches that exist at
    once would take more than half of its part of the memory, one at least.

    >>> from coview.recipes import recipe
    >>> render_ahead(recipe("simclr-cpu"), torch.device("cpu"))
    RenderAhead(workers=1, ahead=2, note='')
    """
    if workers is not None:
        return RenderAhead(workers=workers, ahead=workers + 1)
    own = cores() // sharing() - 1
    usual = 1 if device.type == "cpu" else max(1, min(MOST_WORKERS, own))
    if render_device(device).type != "cpu":  # the batches are not in this memory
        return RenderAhead(workers=usual, ahead=usual + 1)
    tensors = bytes_of_views(recipe, -(-recipe.batch_size // world))
    rendered, kept = sum(tensors), sum(tensors)
    if device.type == "cuda":  # torch takes page-locked memory in powers of two
        kept = sum(1 << (size - 1).bit_length() for size in tensors)
    may_fill = HOST_SHARE * memory_bytes() / sharing()

    def need(threads: int, ahead: int) -> int:
        """Of the batches ahead and that of the step, and of those that are just being copied."""
        copied = threads * rendered if device.type == "cuda" else 0
        return (ahead + 1) * kept + copied

    steps = [(threads, threads + 1) for threads in range(usual, 0, -1)]
    fitting = (step for step in steps if need(*step) <= may_fill)
    chosen, ahead = next(fitting, (1, 1))
    if chosen == usual and ahead == usual + 1:
        return RenderAhead(workers=usual, ahead=ahead)
    fewer = f"{plural(chosen, 'thread')} in place of {usual} and " if chosen < usual else ""
    sets = "; `workers` sets the threads" if chosen < usual else ""
    note = (
        f"{fewer}{plural(ahead, 'batch', 'batches')} ahead in place of {usual + 1}: the batches "
        "that exist at once would take "
        f"{byte_size(need(usual, usual + 1))} of this machine's memory, and "
        f"{byte_size(may_fill)} can be used{sets}."
    )
    return RenderAhead(workers=chosen, ahead=ahead, note=note)


def bytes_of_views(recipe: Recipe, images: int) -> list[int]:
    """The bytes of each view of so many images, float32; of images with objects at their largest,
    without masks.

    >>> from coview.recipes import recipe
    >>> bytes_of_views(recipe("simclr-cpu"), 2)
    [24576, 24576]
    """
    if isinstance(recipe, DenseRecipe):
        side, method = recipe.method.largest_size, recipe.method
        longest = side * (method.max_ratio if isinstance(method, Detector) else 1.0)
        return [round(images * 3 * side * longest) * FLOAT32]
    return [images * 3 * view.size**2 * FLOAT32 for view in recipe.method.views.views]


def make_loader(
    recipe: Recipe, store: ImageStore, device: torch.device, *, workers: int | None = None,
    ranks: Ranks = SINGLE_PROCESS, start: int = 0, total_steps: int | None = None,
) -> BatchLoader:  # fmt: skip
    """The batches from ``start`` up to ``total_steps``, without an end where that is None.

    ``workers``: see :func:`render_ahead`. Raises DataError where the method needs labels and there
    are none.
    """
    threads = render_ahead(recipe, device, workers, ranks.world)
    if isinstance(recipe, DenseRecipe):
        return BatchLoader(
            store.ids, None, dense_renderer(recipe, store), batch_size=recipe.batch_size,
            seed=recipe.seed, total_steps=total_steps, start_step=start, workers=threads.workers,
            ahead=threads.ahead, pin=device.type == "cuda", ranks=ranks,
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
        workers=threads.workers, ahead=threads.ahead, pin=device.type == "cuda", ranks=ranks,
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
