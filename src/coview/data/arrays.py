"""Images that are in memory already: numpy arrays, lists of them, or another store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.core.images import ImageStore
from coview.data.listing import Content, Listing, hash_lines, image_ids

_EXPECTED = "expected uint8 of shape [N, H, W, 3] or [N, H, W], or a list of [H, W, 3] or [H, W]"


def read_arrays(images: Any, labels: Any, *, white: float | None) -> Listing:
    """Images [N, H, W, 3] or [N, H, W] (gray), or a list of [H, W, 3] or [H, W] of any sizes.

    uint8; other real types if ``white`` is the value that means white. labels: N integers (-1 for
    unknown) or strings, or None. Raises InvalidValue for anything else.
    """
    rows = _check_images(images, white)
    names = [f"arrays#{row}" for row in range(len(rows))]
    numbers, classes = (None, ()) if labels is None else _number_labels(labels, len(rows))

    def contents(selected: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        return ((rows[row], rows[row].nbytes) for row in selected.tolist())

    return Listing(
        source="arrays", names=names, contents=contents,
        stamp=hash_lines(["arrays", *(digest(np.ascontiguousarray(r).tobytes()) for r in rows)]),
        ids=image_ids(names), labels=numbers, class_names=classes,
    )  # fmt: skip


def read_store(store: ImageStore) -> Listing:
    """The images of a store, with their names, ids, labels and notes."""

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for row in rows.tolist():
            image = store.image(row)
            yield image, image.nbytes

    return Listing(
        source=store.source, names=store.names, contents=contents,
        stamp=hash_lines(["store", *(digest(store.image(r).tobytes()) for r in range(len(store)))]),
        ids=store.ids, labels=store.labels, class_names=store.class_names, notes=store.notes,
    )  # fmt: skip


def _check_images(images: Any, white: float | None) -> Sequence[npt.NDArray[Any]]:
    if not isinstance(images, list | tuple) and getattr(images, "ndim", 0) == 0:
        raise InvalidValue(f"The images are of type {type(images).__name__}; {_EXPECTED}.")
    if len(images) == 0:
        raise InvalidValue("There are no images in the array; expected at least 1.")
    rows = [np.asarray(image) for image in images]
    for number, row in enumerate(rows):
        _check_image(number, row, white)
    return rows


def _check_image(number: int, image: npt.NDArray[Any], white: float | None) -> None:
    gray, color = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
    if not (gray or color) or image.size == 0:
        channels_first = image.ndim == 3 and image.shape[0] in (1, 3)
        hint = "; move the channels last with images.transpose(0, 2, 3, 1)" * channels_first
        raise InvalidValue(f"Image {number} has the shape {list(image.shape)}; {_EXPECTED}{hint}.")
    if image.dtype == np.uint8:
        return
    if white is None or image.dtype.kind not in "uif":
        raise InvalidValue(
            f"Image {number} is of type {image.dtype}; {_EXPECTED}, or give `white`, the value "
            "that means white (65535 for full-range uint16, 1.0 for floats)."
        )


def _number_labels(labels: Any, count: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    values = np.asarray(labels)
    if values.shape != (count,) or values.dtype.kind not in "iuU":
        raise InvalidValue(
            f"The labels are of type {values.dtype} and shape {list(values.shape)}; "
            f"expected {count} integers or strings, one per image."
        )
    if values.dtype.kind == "U":
        classes, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), tuple(str(name) for name in classes)
    if values.min() < -1:
        raise InvalidValue(f"A label is {values.min()}; expected 0 or more, or -1 for unknown.")
    return values.astype(np.int64), tuple(str(i) for i in range(int(values.max()) + 1))
