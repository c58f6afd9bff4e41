"""Images that are in memory already: numpy arrays, lists of them, or another store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.core.images import ImageStore
from coview.data.listing import Content, Listing, ids_of, stamp_of

_EXPECTED = "expected uint8 of shape [N, H, W, 3] or [N, H, W], or a list of [H, W, 3] or [H, W]"


def read_arrays(images: Any, labels: Any, *, white: float | None) -> Listing:
    """Images [N, H, W, 3] or [N, H, W] (gray), or a list of [H, W, 3] or [H, W] of any sizes.

    uint8; other real types where ``white`` says which value is white. labels: N integers (-1 for
    unknown) or strings, or None. Raises InvalidValue for anything else.
    """
    rows = _images(images, white)
    names = [f"arrays#{row}" for row in range(len(rows))]
    numbers, classes = (None, ()) if labels is None else _labels(labels, len(rows))

    def contents(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((rows[row], rows[row].nbytes) for row in chosen.tolist())

    return Listing(
        source="arrays",
        names=names,
        contents=contents,
        stamp=stamp_of(["arrays", *(digest(np.ascontiguousarray(r).tobytes()) for r in rows)]),
        ids=ids_of(names),
        labels=numbers,
        class_names=classes,
    )


def read_store(store: ImageStore) -> Listing:
    """The images of a store once more, with their names, ids and labels."""

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for row in rows.tolist():
            image = store.image(row)
            yield image, image.nbytes

    return Listing(
        source=store.source,
        names=store.names,
        contents=contents,
        stamp=stamp_of(["store", *(digest(store.image(r).tobytes()) for r in range(len(store)))]),
        ids=store.ids,
        labels=store.labels,
        class_names=store.class_names,
    )


def _images(images: Any, white: float | None) -> Sequence[npt.NDArray[Any]]:
    if not isinstance(images, list | tuple) and getattr(images, "ndim", 0) == 0:
        raise InvalidValue(f"The images are of type {type(images).__name__}; {_EXPECTED}.")
    if len(images) == 0:
        raise InvalidValue("There are no images in the array; expected at least one.")
    rows = [np.asarray(image) for image in images]
    for number, row in enumerate(rows):
        _check(number, row, white)
    return rows


def _check(number: int, image: npt.NDArray[Any], white: float | None) -> None:
    gray, color = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
    if not (gray or color) or image.size == 0:
        channels_first = image.ndim == 3 and image.shape[0] in (1, 3)
        hint = "; move the channels last with images.transpose(0, 2, 3, 1)" * channels_first
        raise InvalidValue(f"Image {number} has the shape {list(image.shape)}; {_EXPECTED}{hint}.")
    if image.dtype == np.uint8:
        return
    if white is None or image.dtype.kind not in "uif":
        raise InvalidValue(
            f"Image {number} is of type {image.dtype}; {_EXPECTED}, or say with white=... "
            "which value is white (65535 for full-range uint16, 1.0 for floats)."
        )


def _labels(labels: Any, count: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "iuU":
        raise InvalidValue(
            f"The labels are of type {values.dtype} and shape {list(values.shape)}; "
            f"expected {count} integers or strings, one an image."
        )
    if values.dtype.kind == "U":
        classes, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), tuple(str(name) for name in classes)
    if values.min() < -1:
        raise InvalidValue(f"A label is {values.min()}; expected 0 or more, or -1 for unknown.")
    return values.astype(np.int64), tuple(str(i) for i in range(int(values.max()) + 1))
