"""Which images are used for what, and whether there are enough of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue, RunError
from coview.core.images import ImageStore
from coview.core.rng import Stream, uniforms

MIN_TRAIN_IMAGES = 32
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.02, 128, 1024
MAX_HELD_OUT_SHARE = 0.2

Rows = npt.NDArray[np.int64]


def split_held_out(
    store: ImageStore, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(training rows, held-out rows), both ascending: an image is held out by (seed, id) alone.

    So adding or removing images moves no other image from one side to the other; in return the
    number held out is only about share * N. share in [0, 1). Shapes: int64 [N - H], int64 [H].
    """
    if not 0 <= share < 1:
        raise InvalidValue(f"The held-out share is {share}; expected 0 up to, but not, 1.")
    draw = uniforms(seed, Stream.SPLIT, store.ids, epoch=0, view=0, count=1)[:, 0]
    held_out = draw < share
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def require_images(store: ImageStore, minimum: int, purpose: str) -> None:
    """Raise DataError where ``store`` has fewer than ``minimum`` images for ``purpose``."""
    if len(store) >= minimum:
        return
    broken = f" ({len(store.quarantine):,} more could not be used)" if store.quarantine else ""
    noun = "image" if len(store) == 1 else "images"
    raise DataError(
        f"{store.source} has {len(store):,} usable {noun}{broken}; {purpose} needs at least "
        f"{minimum:,}."
    )


def relabel(store: ImageStore, class_names: tuple[str, ...]) -> ImageStore:
    """The same images with labels numbered by ``class_names`` instead of the store's own.

    Two parts of a data set number their classes alike only where both have all of them; a test
    part must be numbered by the training part. Raises DataError where ``store`` has no labels or
    images of a class that is not in ``class_names``.
    """
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


def hold_out(store: ImageStore, seed: int) -> tuple[Rows, Rows]:
    """(training rows, held-out rows): about 2 % and 128 to 1,024 images, never above a fifth.

    Raises DataError where there are too few images for anything.
    """
    require_images(store, MIN_TRAIN_IMAGES, "training")
    wanted = min(max(HELD_OUT_SHARE * len(store), MIN_HELD_OUT), MAX_HELD_OUT)
    share = min(wanted / len(store), MAX_HELD_OUT_SHARE)
    return split_held_out(store, share, seed)


def check_same(store: ImageStore, fingerprint: str, source: str) -> None:
    """Raise RunError where the images are not those that the run began with."""
    if store.fingerprint != fingerprint:
        raise RunError(
            f"The images of {source} have changed since the run began, so it cannot go on exactly. "
            "Bring them back, or start a new run from this encoder with --weights."
        )
