"""The split into training and held-out images, and checks of their number and identity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue
from coview.core.images import ImageStore
from coview.core.rng import HELD_OUT_IMAGES, Stream, uniforms
from coview.core.text import plural
from coview.data.annotations import AnnotatedStore, with_class_names

MIN_TRAIN_IMAGES = 32
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.02, 128, 1024
MAX_HELD_OUT_SHARE, FEWEST_HELD_OUT = 0.2, 2

Rows = npt.NDArray[np.int64]


def split_held_out(store: ImageStore, share: float, seed: int) -> tuple[Rows, Rows]:
    """(training rows, held-out rows), both ascending: an image is held out by (seed, id) alone.

    So adding or removing images moves no other image from one side to the other; the number held
    out is therefore only about share * N. share in [0, 1). Shapes: int64 [N - H], int64 [H].

    >>> from coview.data.scenes.store import make_scenes
    >>> store = make_scenes(100, size=8)
    >>> train, held_out = split_held_out(store, 0.1, seed=0)
    >>> len(train) + len(held_out)
    100
    """
    if not 0 <= share < 1:
        raise InvalidValue(f"The held-out `share` is {share}; expected at least 0 and less than 1.")
    held_out = _draws(store, seed) < share
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _draws(store: ImageStore, seed: int) -> npt.NDArray[np.float32]:
    """A number in [0, 1) for every image, by (seed, id)."""
    return uniforms(seed, Stream.SPLIT, store.ids, epoch=HELD_OUT_IMAGES, view=0, count=1)[:, 0]


def require_images(store: ImageStore, minimum: int, purpose: str) -> None:
    """Raise DataError if ``store`` has fewer than ``minimum`` images for ``purpose``.

    >>> from coview.data.scenes.store import make_scenes
    >>> require_images(make_scenes(3), 4, "training")
    Traceback (most recent call last):
    ...
    coview.core.errors.DataError: scenes:train has 3 usable images; training needs at least 4.
    """
    if len(store) >= minimum:
        return
    broken = f" ({len(store.quarantine):,} more unusable)" if store.quarantine else ""
    usable = plural(len(store), "usable image")
    raise DataError(f"{store.source} has {usable}{broken}; {purpose} needs at least {minimum:,}.")


def relabel(store: ImageStore, class_names: tuple[str, ...]) -> ImageStore:
    """The same images with labels numbered by ``class_names`` instead of the store's own.

    Two parts of a data set number their classes alike only if both have all of them; a test part
    must be numbered by the training part. Raises DataError if ``store`` has no labels, or images of
    a class that is not in ``class_names``.

    >>> from coview.core.images import store_from_arrays
    >>> images, names = np.zeros((2, 1, 1, 3), np.uint8), ("cat", "dog")
    >>> store = store_from_arrays(images, labels=np.array([0, 1]), class_names=names)
    >>> relabel(store, ("ant", "cat", "dog")).labels
    array([1, 2])
    """
    if isinstance(store, AnnotatedStore):
        return with_class_names(store, class_names)
    if store.labels is None:
        raise DataError(f"{store.source} has no labels.")
    number = {name: i for i, name in enumerate(class_names)}
    used = {store.class_names[i] for i in np.unique(store.labels[store.labels >= 0])}
    unknown = sorted(used - number.keys())
    if unknown:
        raise DataError(
            f"{store.source} has images of classes that the other part lacks: {', '.join(unknown)}."
        )
    table = np.array([number.get(name, -1) for name in store.class_names] + [-1], dtype=np.int64)
    return replace(store, labels=table[store.labels], class_names=class_names)


def match_classes(train: ImageStore, test: ImageStore) -> ImageStore:
    """The images of ``test`` with labels numbered by the names of the classes of ``train``.

    Labels are compared as the numbers that they are where one of the two has no names. Raises
    DataError as :func:`relabel`.

    >>> from coview.core.images import store_from_arrays
    >>> images, labels = np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1])
    >>> train = store_from_arrays(images, labels=labels, class_names=("cat", "dog"))
    >>> test = store_from_arrays(images, labels=labels, class_names=("dog", "cat"))
    >>> match_classes(train, test).labels
    array([1, 0])
    """
    if not train.class_names or not test.class_names or train.class_names == test.class_names:
        return test
    return relabel(test, train.class_names)


def hold_out(store: ImageStore, seed: int) -> tuple[Rows, Rows]:
    """(training rows, held-out rows): 2 % are held out, 128 to 1,024 images, at most a fifth.

    Of very few images chance may hold out none or one: then it is the two of the lowest draws, as
    nothing can be judged by fewer. Raises DataError if there are fewer than MIN_TRAIN_IMAGES.
    """
    require_images(store, MIN_TRAIN_IMAGES, "training")
    rows, held_out = split_held_out(store, _share(len(store)), seed)
    if len(held_out) < FEWEST_HELD_OUT:
        held_out = np.sort(np.argsort(_draws(store, seed), kind="stable")[:FEWEST_HELD_OUT])
        rows = np.delete(np.arange(len(store)), held_out)
    return rows, held_out


def usual_training(images: int) -> int:
    """The training images that :func:`hold_out` leaves of so many, as the mean over seeds.

    >>> usual_training(50_000), usual_training(100)
    (49000, 80)
    """
    return round(images * (1 - _share(images)))


def _share(images: int) -> float:
    count = min(max(HELD_OUT_SHARE * images, MIN_HELD_OUT), MAX_HELD_OUT)
    return min(count / images, MAX_HELD_OUT_SHARE)
