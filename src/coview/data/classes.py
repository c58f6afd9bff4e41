"""Labels of any source as numbers of classes, and the usual names of columns and keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError

IMAGE_NAMES = ("image", "images", "img", "picture", "photo", "jpg", "png")
LABEL_NAMES = (
    "label", "labels", "class", "target", "category", "cls", "fine_label", "coarse_label",
)  # fmt: skip
MAX_CLASSES = 100_000

Label = int | str | None


def label_of_text(text: str) -> Label:
    """The label that a text file has: a whole number where it is one, None where it is empty.

    >>> label_of_text(" 7\\n"), label_of_text("-1"), label_of_text("cat"), label_of_text("")
    (7, -1, 'cat', None)
    """
    text = text.strip()
    return int(text) if text.removeprefix("-").isdecimal() else text or None


def number_labels(
    values: Sequence[Sequence[Label]], names: Sequence[tuple[str, ...]], column: str
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels int64 [N] of several files and their class names; -1 for unknown, None if all are.

    ``values`` are the labels of each file and ``names`` the class names that it states. A number
    means the name in its own file, or in the first that states names. Without names whole numbers
    from 0 are classes already; other values are sorted. Raises DataError for a number without a
    name.
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
    elif all(isinstance(label, int) and 0 <= label < MAX_CLASSES for label in known):
        classes = [str(number) for number in range(max(map(int, known)) + 1)]
    elif all(isinstance(label, int) for label in known):
        classes = [str(number) for number in sorted({int(label) for label in known})]
    else:
        classes = sorted({str(label) for label in known})
    number = {name: i for i, name in enumerate(classes)}
    labels = [-1 if label is None else number[str(label)] for each in named for label in each]
    return np.array(labels, dtype=np.int64), tuple(classes)


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
