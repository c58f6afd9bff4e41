"""Whether the labels of the training images are enough for a method that learns from them."""

from __future__ import annotations

import numpy as np

from coview.core.errors import DataError
from coview.core.images import ImageStore
from coview.methods.set_objectives import CrossEntropy
from coview.recipes import Recipe


def about_classes(recipe: Recipe, store: ImageStore) -> tuple[str, ...]:
    """A note where the labels hold one class only, which SupCon can learn from and should not.

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
    classes = np.unique(store.labels[store.labels >= 0])
    if len(classes) > 1:
        return ()
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
