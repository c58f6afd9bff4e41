"""Data sets of torch and of Hugging Face: anything with a length whose items are images.

They are known by what they can do, so that neither library is imported. Items are read one after
the other, because such an object may not be used by several threads.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError, InvalidValue, UnknownName
from coview.core.progress import progress
from coview.data.arrays import number_given_labels, plain_image
from coview.data.classes import IMAGE_NAMES, LABEL_NAMES, number_labels, plain_labels
from coview.data.listing import Content, Listing, Rejected, hash_lines, image_ids
from coview.data.options import SourceOptions
from coview.data.parts import ALL, select_part

KEYS = (*IMAGE_NAMES, "pixel_values", "x")
"""The keys under which an item may have its image."""

_BYTES = 1 << 16  # a guess; it decides only how many images are decoded as one task


def is_dataset(source: Any) -> bool:
    """Whether ``source`` is a data set, a data loader, or several parts of a data set by name.

    >>> is_dataset([1, 2]), is_dataset(np.zeros((2, 3))), is_dataset({"train": [1]})
    (False, False, True)
    """
    if isinstance(source, list | tuple | str | bytes) or hasattr(source, "ndim"):
        return False
    return hasattr(source, "__getitem__") or hasattr(source, "__iter__")


def read_dataset(source: Any, options: SourceOptions) -> Listing:
    """The images of a data set, named "dataset#row".

    An item is an image (Pillow's, an array or a tensor), (image, label, ...), or a mapping with an
    image and perhaps a label; columns of Hugging Face are read undecoded. Of a data loader its data
    set is taken, of a mapping of parts the one that the options name. Labels that only the items
    have are read where they are needed or asked for ("column"): that takes a pass over all items.
    Raises InvalidValue for anything else.
    """
    options.refuse("a data set", labels_from="folders", columns=False)
    if isinstance(source, Mapping):
        part = select_part(
            [str(name) for name in source], options.split, for_test=options.for_test,
            source="the data set",
        )  # fmt: skip
        if part == ALL:
            raise InvalidValue(
                f"`split` is {ALL!r}, which does not apply to a mapping of data sets; expected one "
                f"of {', '.join(map(str, source))}."
            )
        return replace(read_dataset(source[part], options), parts=tuple(sorted(source)))
    notes: tuple[str, ...] = ()
    if hasattr(source, "dataset") and hasattr(source, "batch_size"):
        notes = (
            "Of the data loader its data set is read, once; Coview augments, shuffles and batches "
            "by itself.",
        )
        source = source.dataset
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise InvalidValue(
            f"The data set ({type(source).__name__}) has no length or no items by number; "
            "expected a map-style data set, or its images as a list."
        )
    if len(source) == 0:
        raise InvalidValue(f"The data set ({type(source).__name__}) is empty.")
    columns = hasattr(source, "features") and hasattr(source, "column_names")
    listing = _read_columns(source, options) if columns else _read_items(source, options)
    return replace(listing, notes=notes)


def _read_columns(source: Any, options: SourceOptions) -> Listing:
    """A data set of Hugging Face, whose columns have types."""
    names = list(source.column_names)
    image = _choose(names, options.columns[0], KEYS)
    if image is None:
        raise InvalidValue(
            f"The data set has no column that is clearly of images ({', '.join(names)}); name it "
            "by `image_column`."
        )
    feature = source.features[image]
    if getattr(feature, "decode", False):  # bytes, which Coview decodes itself, in threads
        source = source.with_format(None).cast_column(image, type(feature)(decode=False))
    labels: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    if options.uses_labels:
        column = _choose(names, options.columns[1], LABEL_NAMES)
        if column is not None:
            stated = tuple(getattr(source.features[column], "names", None) or ())
            values = plain_labels(source[column], column, "the data set")
            labels, classes = number_labels([values], [stated], column)
        elif options.labels_from == "column":
            raise _no_labels(names)
    return _listing(source, image, options, labels, classes, stamp=source._fingerprint)


def _read_items(source: Any, options: SourceOptions) -> Listing:
    item = source[0]
    key = _key_of(item, options.columns[0], KEYS)
    label = _key_of(item, options.columns[1], LABEL_NAMES, second=True)
    if isinstance(item, Mapping | tuple | list) and key is None:
        raise InvalidValue(
            f"An item of the data set is {_shape(item)}; expected an image, (image, label), or a "
            "mapping whose key `image_column` names."
        )
    plain_image(0, item if key is None else item[key], options.white)  # a wrong type is an error
    labels: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    if options.uses_labels:
        values = _stated_labels(source)
        needed = options.labels_from == "column" or options.needs_labels
        if values is None and needed:
            if label is None:
                raise _no_labels(_shape(item))
            values = list(_labels_of_items(source, label))
        if values is not None:
            stated = _stated_classes(source)
            labels, classes = number_given_labels(values, len(source), stated)
            if len(stated) >= len(classes):
                classes = stated
    return _listing(source, key, options, labels, classes, stamp=uuid.uuid4().hex)


def _listing(
    source: Any, key: Any, options: SourceOptions, labels: npt.NDArray[np.int64] | None,
    classes: tuple[str, ...], *, stamp: str,
) -> Listing:  # fmt: skip
    names = [f"dataset#{row}" for row in range(len(source))]
    one_at_a_time = threading.Lock()

    def contents(rows: npt.NDArray[np.int64]) -> Iterator[tuple[Content, int]]:
        for row in rows.tolist():
            with one_at_a_time:
                content = _content(source, row, key, options.white)
            yield content, _BYTES

    return Listing(
        source="dataset", names=names, contents=contents,
        stamp=hash_lines(["dataset", stamp, str(key)]), ids=image_ids(names), labels=labels,
        class_names=classes,
    )  # fmt: skip


def _content(source: Any, row: int, key: Any, white: float | None) -> Content:
    """The image of an item; Rejected with the reason where the data set cannot give it."""
    try:
        item = source[row]
        image = item if key is None else item[key]
        if isinstance(image, Mapping) and "bytes" in image:  # an undecoded image of Hugging Face
            return _undecoded(image)
        image = plain_image(row, image, white)
    except Exception as error:  # the code of the data set may raise anything
        return Rejected(str(error) if isinstance(error, CoviewError) else repr(error))
    return image if isinstance(image, np.ndarray) else image.copy


def _undecoded(image: Mapping[str, Any]) -> Content:
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    return Path(image["path"]) if image.get("path") else Rejected("no image in this row")


def _choose(names: Sequence[str], name: str | None, usual: Iterable[str]) -> str | None:
    if name is not None and name not in names:
        raise UnknownName("column of the data set", name, names)
    return name or next((each for each in usual if each in names), None)


def _key_of(item: Any, name: str | None, usual: Iterable[str], *, second: bool = False) -> Any:
    """Where an item has its image, or (``second``) its label; None where it is the image itself."""
    if isinstance(item, Mapping):
        return _choose([str(key) for key in item], name, usual)
    if not isinstance(item, tuple | list):
        return None
    place = int(second)
    return place if len(item) > place and not (second and _is_image(item[1])) else None


def _is_image(value: Any) -> bool:
    return getattr(value, "ndim", 0) >= 2 or hasattr(value, "getpixel")


def _stated_labels(source: Any) -> list[Any] | None:
    """The labels that a data set states without its items, as torchvision's do; of a subset too."""
    if hasattr(source, "indices") and hasattr(source, "dataset"):
        labels = _stated_labels(source.dataset)
        return None if labels is None else [labels[int(row)] for row in source.indices]
    for name in ("targets", "labels"):
        labels = getattr(source, name, None)
        if labels is not None and not callable(labels) and len(labels) == len(source):
            return [getattr(label, "item", lambda label=label: label)() for label in labels]
    return None


def _stated_classes(source: Any) -> tuple[str, ...]:
    while not hasattr(source, "classes") and hasattr(source, "dataset"):
        source = source.dataset
    classes = getattr(source, "classes", ())
    return tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()


def _labels_of_items(source: Any, key: Any) -> Iterator[Any]:
    with progress("Reading labels", len(source)) as advance:
        for row in range(len(source)):
            label = source[row][key]
            yield label.item() if hasattr(label, "item") else label
            advance()


def _shape(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping with the keys {', '.join(map(str, item))}"
    if isinstance(item, tuple | list):
        return f"({', '.join(type(value).__name__ for value in item)})"
    return f"of type {type(item).__name__}"


def _no_labels(what: object) -> InvalidValue:
    return InvalidValue(
        f"Labels are needed and the data set has none that are clearly so ({what}); name them by "
        "`label_column`, or give items of the form (image, label)."
    )
