"""Labels of any source as numbers of classes, and the usual names of columns and keys."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.plain import plain_number

IMAGE_NAMES = ("image", "images", "img", "picture", "photo", "jpg", "png")
LABEL_NAMES = (
    "label", "labels", "class", "target", "category", "cls", "fine_label", "coarse_label",
)  # fmt: skip
MAX_CLASSES = 100_000
MAX_GAPS = 100
"""Of class numbers: beyond as many that do not occur, and as many as do, they are names."""

Label = int | str | None


def label_of_text(text: str) -> Label:
    """The label that a text file has: a whole number where it is one, None where it is empty.

    >>> label_of_text(" 7\\n"), label_of_text("-1"), label_of_text("cat"), label_of_text("")
    (7, -1, 'cat', None)
    """
    text = text.strip()
    return int(text) if text.removeprefix("-").isdecimal() else text or None


def plain_labels(values: Iterable[Any], column: str, source: object) -> list[Label]:
    """The labels of ``column`` as whole numbers, texts, and None for unknown.

    Raises DataError for a number that is not whole, and for other values.

    >>> plain_labels([1.0, True, "cat", None, float("nan")], "label", "pets.parquet")
    [1, 1, 'cat', None, None]
    """
    labels: list[Label] = []
    for given in values:
        value = plain_number(given)
        if value is None or isinstance(value, str):
            labels.append(value)
        elif isinstance(value, int | float | Decimal) and math.isnan(value):
            labels.append(None)
        elif isinstance(value, int | float | Decimal) and float(value).is_integer():
            labels.append(int(value))
        else:
            raise DataError(
                f"The label column {column!r} of {source} has {value}; labels are whole numbers, "
                "strings, or true and false."
            )
    return labels


def number_labels(
    values: Sequence[Sequence[Label]], names: Sequence[tuple[str, ...]], column: str
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels int64 [N] of several files and their class names; -1 for unknown, None if all are.

    ``values`` are the labels of each file and ``names`` the class names that it states. A number
    means the name in its own file, or in the first that states names. Without names whole numbers
    from 0 are classes already, unless most of them do not occur, as of years or identifiers; other
    values are sorted. Raises DataError for a number without a name.
    """
    stated = next((each for each in names if each), ())
    named = [
        _name_numbers(each, own or stated, column) for each, own in zip(values, names, strict=True)
    ]
    known = [label for each in named for label in each if label is not None]
    if not known:
        return None, ()
    if stated:
        classes = list(dict.fromkeys(name for each in names for name in each))
        classes += sorted({str(label) for label in known} - set(classes))
    elif all(isinstance(label, int) for label in known) and _are_classes({*map(int, known)}):
        classes = [str(number) for number in range(max(map(int, known)) + 1)]
    elif all(isinstance(label, int) for label in known):
        classes = [str(number) for number in sorted({int(label) for label in known})]
    else:
        classes = sorted({str(label) for label in known})
    number = {name: i for i, name in enumerate(classes)}
    labels = [-1 if label is None else number[str(label)] for each in named for label in each]
    return np.array(labels, dtype=np.int64), tuple(classes)


def _are_classes(numbers: Collection[int]) -> bool:
    """Whether whole numbers count classes from 0, of which some may not occur.

    >>> _are_classes({0, 2, 9}), _are_classes({2019, 2020, 2021}), _are_classes({-3, 4})
    (True, False, False)
    """
    count = max(numbers) + 1
    return min(numbers) >= 0 and count <= min(MAX_CLASSES, 2 * len(numbers) + MAX_GAPS)


def _name_numbers(values: Sequence[Label], names: tuple[str, ...], column: str) -> list[Label]:
    """The names of numbers, where there are names; -1 is unknown."""
    numbers = [value for value in values if isinstance(value, int) and value != -1]
    if names and numbers and not (min(numbers) >= 0 and max(numbers) < len(names)):
        raise DataError(
            f"The label column {column!r} has {min(numbers)} to {max(numbers)}; "
            f"expected 0 to {len(names) - 1}, or -1 for unknown."
        )
    return [
        None if value == -1 else names[value] if names and isinstance(value, int) else value
        for value in values
    ]
