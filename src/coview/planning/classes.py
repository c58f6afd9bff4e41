"""Whether the labels of the training images are enough for a method that learns from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.methods.set_objectives import CrossEntropy
from coview.recipes import Recipe

MANY_ALONE = 0.3
"""The share of images without a partner of their class from which on a plan says so: a choice."""


def about_classes(recipe: Recipe, store: ImageStore) -> tuple[str, ...]:
    """A note where the labels hold one class only, which SupCon can learn from and should not, or
    so many that most images of a batch are alone of their class.

    Raises DataError where a classifier would have one class to choose from.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.recipes import recipe
    >>> images = np.zeros((4, 8, 8, 3), np.uint8)
    >>> store = store_from_arrays(images, labels=np.zeros(4, np.int64), class_names=("cat",))
    >>> about_classes(recipe("supcon-cpu"), store)[0][:40]
    'All labeled images are of one class, cat'
    """
    if not recipe.method.needs_labels or store.labels is None:
        return ()
    classes, counts = np.unique(store.labels[store.labels >= 0], return_counts=True)
    if len(classes) > 1:
        return _about_partners(recipe, counts, len(store))
    found = f"of one class, {store.class_names[classes[0]]}" if len(classes) else "without a label"
    if isinstance(recipe.method.objective, CrossEntropy):
        raise DataError(
            f"The images of {store.source} are {found}; {recipe.method.name} learns to tell "
            "classes apart and needs two or more. `recipe` simclr learns without labels."
        )
    return (
        f"All labeled images are {found}: {recipe.method.name} draws them together, until "
        "every image has the same embedding. `recipe` simclr learns without labels.",
    )


def _about_partners(recipe: Recipe, counts: npt.NDArray[np.int64], images: int) -> tuple[str, ...]:
    """A note where random batches leave many images without another one of their class."""
    batch = recipe.batch_size
    is_random = recipe.classes_per_batch is None
    if not is_random or isinstance(recipe.method.objective, CrossEntropy):
        return ()
    share = alone_share(counts, images, batch)
    if share <= MANY_ALONE:
        return ()
    each = next((size for size in (4, 2) if is_possible(counts, images, batch, size)), None)
    remedy = (
        "A larger `batch_size` has more of each class."
        if each is None
        else f"`classes_per_batch` {batch // each} draws {each} images of each of {batch // each} "
        "classes."
    )
    return (
        f"In a batch of {batch} about {share:.0%} of the labeled images are the only one of their "
        f"class, so that {recipe.method.name} learns nothing from their labels. {remedy}",
    )


def is_possible(counts: npt.NDArray[np.int64], images: int, batch: int, each: int) -> bool:
    """Whether every batch can have ``each`` images of one class, of as many classes as fill it."""
    classes = batch // each
    whole = batch % each == 0 and 2 <= classes <= len(counts)
    return whole and counts.min() >= each and counts.sum() == images


def alone_share(counts: npt.NDArray[np.int64], images: int, batch: int) -> float:
    """The share of labeled images that are the only one of their class in a random batch.

    ``counts`` of each class [C], of ``images`` with and without labels: the mean over the labeled
    ones of (1 - count / images)^(batch - 1), as if images were drawn with replacement.

    >>> round(alone_share(np.full(200, 50), 10_000, 128), 2)
    0.53
    """
    alone = (1 - counts / images) ** (batch - 1)
    return float(np.average(alone, weights=counts))
