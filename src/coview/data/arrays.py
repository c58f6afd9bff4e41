"""Images that are in memory already: arrays, tensors, Pillow images, lists of them, a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.core.images import ImageStore
from coview.core.plain import plain_number
from coview.data.classes import Label, number_labels
from coview.data.listing import Content, Listing, hash_lines, image_ids

_EXPECTED = (
    "expected uint8 of shape [N, H, W, 3], [N, 3, H, W] or [N, H, W], or a list of such images or "
    "of Pillow's"
)


def read_arrays(images: Any, labels: Any, *, white: float | None) -> Listing:
    """Images [N, H, W, 3], [N, 3, H, W] or [N, H, W] (gray), or a list of images of any sizes.

    uint8, or floats in [0, 1]; other real types if ``white`` is the value that means white. labels:
    N whole numbers (-1 for unknown) or strings (None for unknown), or None. Raises InvalidValue for
    anything else.
    """
    _check_sequence(images)
    rows = [plain_image(number, image, white) for number, image in enumerate(images)]
    names = [f"arrays#{row}" for row in range(len(rows))]
    numbers, classes = (None, ()) if labels is None else number_given_labels(labels, len(rows))

    def contents(selected: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for row in selected.tolist():
            image = rows[row]
            if isinstance(image, Image.Image):
                yield image.copy, 4 * image.width * image.height  # the decoder closes the copy
            else:
                yield image, image.nbytes

    return Listing(
        source="arrays", names=names, contents=contents,
        stamp=hash_lines(["arrays", *(_describe(row) for row in rows)]),
        ids=image_ids(names), labels=numbers, class_names=classes,
    )  # fmt: skip


def split_labels(source: Any) -> tuple[Any, Any]:
    """(images, labels) of such a pair or of a list of (image, label); labels None of images alone.

    >>> split_labels([(np.zeros((2, 2)), "cat"), (np.ones((2, 2)), "dog")])[1]
    ['cat', 'dog']
    """
    if isinstance(source, tuple) and len(source) == 2 and _depth(source[0]) > _depth(source[1]):
        return source
    is_list = isinstance(source, list | tuple) and len(source) > 0
    if is_list and all(
        isinstance(item, list | tuple) and len(item) == 2 and _depth(item[0]) > _depth(item[1]) == 0
        for item in source
    ):
        return [item[0] for item in source], [item[1] for item in source]
    return source, None


def _describe(image: npt.NDArray[Any] | Image.Image) -> str:
    """Size and hash of an image in memory."""
    size = image.size if isinstance(image, Image.Image) else image.shape
    return f"{size} {digest(image.tobytes())}"


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


def _depth(value: Any) -> int:
    """The number of axes of an array, of an image, or of a list of such."""
    if isinstance(value, Image.Image):
        return 2
    if isinstance(value, list | tuple) or getattr(value, "dtype", None) == np.dtype(object):
        return 1 + (_depth(value[0]) if len(value) else 0)
    return getattr(value, "ndim", 0)


def _check_sequence(images: Any) -> None:
    axes = getattr(images, "ndim", 0)
    if not isinstance(images, list | tuple) and axes == 0:
        raise InvalidValue(f"The images are of type {type(images).__name__}; {_EXPECTED}.")
    if len(images) == 0:
        raise InvalidValue("There are no images in the array; expected at least 1.")
    if axes == 3 and images.shape[2] == 3:
        raise InvalidValue(
            f"The array has the shape {list(images.shape)}, which is one image; {_EXPECTED}."
        )


def plain_image(number: int, image: Any, white: float | None) -> npt.NDArray[Any] | Image.Image:
    """One image as [H, W, 3] or [H, W] of a type that the decoder reads, or as Pillow's."""
    if isinstance(image, Image.Image):
        return image
    array = _channels_last(_to_numpy(image), is_tensor=hasattr(image, "detach"))
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or array.size == 0:
        shape = list(getattr(image, "shape", ()))
        raise InvalidValue(f"Image {number} has the shape {shape}; {_EXPECTED}.")
    if array.dtype == np.uint8:
        return array
    if white is not None and array.dtype.kind in "uif":
        return array
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return np.rint(255 * array.astype(np.float64)).astype(np.uint8)
    raise InvalidValue(
        f"Image {number} is of type {array.dtype} with values from {array.min()} to {array.max()}; "
        f"{_EXPECTED}, floats in [0, 1], or give `white`, the value that means white (65535 for "
        "full-range uint16, 255 for floats of that range)."
    )


def _to_numpy(image: Any) -> npt.NDArray[Any]:
    if hasattr(image, "detach"):  # a tensor of torch; numpy has no bfloat16
        image = image.detach().cpu()
        image = image.double() if image.is_floating_point() else image
    return np.asarray(image)


def _channels_last(array: npt.NDArray[Any], *, is_tensor: bool) -> npt.NDArray[Any]:
    """[H, W, 3] of [3, H, W], and [H, W] where there is one channel; others as they are.

    Where both ends could be the channels, they are first in a tensor and last in an array.
    """
    if array.ndim != 3:
        return array
    first, last = array.shape[0] in (1, 3), array.shape[2] in (1, 3)
    if first and (is_tensor or not last):
        array = np.moveaxis(array, 0, 2)
    return array[..., 0] if array.shape[2] == 1 else array


def number_given_labels(
    labels: Any, count: int, names: tuple[str, ...] = ()
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """(labels as numbers, class names). ``names``: those of labels that are texts, in their order.

    Raises InvalidValue unless there are ``count`` labels.
    """
    values = _to_numpy(labels).tolist() if hasattr(labels, "dtype") else labels
    values = values if isinstance(values, list | tuple) else []
    known = [plain_number(value) for value in values if value is not None]
    of_one_kind = all(isinstance(value, str) for value in known) or all(map(_is_whole, known))
    if len(values) != count or not of_one_kind:
        given = ", ".join(repr(value) for value in values[:3])
        raise InvalidValue(
            f"There are {len(values)} labels ({given} ...); expected {count} whole numbers or "
            "strings, one for each image."
        )
    labels_of_all: list[Label] = [
        value if value is None or isinstance(value, str) else int(value) for value in values
    ]
    lowest = min((label for label in labels_of_all if isinstance(label, int)), default=0)
    if lowest < -1:
        raise InvalidValue(f"A label is {lowest}; expected 0 or more, or -1 for unknown.")
    are_texts = any(isinstance(label, str) for label in labels_of_all)
    numbers, classes = number_labels([labels_of_all], [names if are_texts else ()], "labels")
    return np.full(count, -1) if numbers is None else numbers, classes


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and float(value).is_integer()
