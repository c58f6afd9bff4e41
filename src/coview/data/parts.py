"""The parts of a data set: train, val and test, by the names of its folders and files."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from coview.core.errors import DataError

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
"""The words for each part."""
ALL = "all"
"""The split that takes every part."""


def part_of_word(word: str) -> str | None:
    """The part that a folder of this name holds; a year behind it, as in COCO's, says no more.

    >>> part_of_word("Validation"), part_of_word("train2017"), part_of_word("cats")
    ('val', 'train', None)
    """
    word = re.sub(r"(19|20)\d\d$", "", word)
    return next((part for part, words in PARTS.items() if word.lower() in words), None)


def part_of_file(name: str) -> str | None:
    """The part that a file or one of its folders is named by, the innermost first.

    >>> part_of_file("data/validation-00000-of-00001.parquet"), part_of_file("cats/1.parquet")
    ('val', None)
    """
    words = (re.split(r"[-_.]", part)[0] for part in reversed(name.split("/")))
    return next((part for word in words if (part := part_of_word(word))), None)


def select_part(
    parts: Collection[str], split: str | None, *, for_test: bool, source: str
) -> str:  # fmt: skip
    """Which of ``parts`` is read: that of ``split``, else what suits, else the only one.

    Where ``split`` is None, "test" or else "val" suits ``for_test``, and "train" suits training;
    any word for them does. Raises DataError where ``split`` is not among them, or none suits and
    there are several. A source without parts has them all, but none by name.

    >>> select_part(["val"], None, for_test=False, source="photos")
    'val'
    >>> select_part(["train", "validation"], None, for_test=True, source="photos")
    'validation'
    """
    known = ", ".join(sorted(parts))
    by_word = {part_of_word(name): name for name in sorted(parts)}
    if split is not None:
        part = split if split in parts or split == ALL else by_word.get(part_of_word(split))
        if part is None and not parts:
            raise DataError(
                f"{source} has no split {split!r}: only folders, patterns and data sets "
                "with parts, such as train, val or test, have one. Give the images of that part."
            )
        if part is None:
            raise DataError(f"{source} has no split {split!r}, only: {known}.")
        return part
    suitable: Sequence[str] = ("test", "val") if for_test else ("train",)
    part = next((by_word[word] for word in suitable if word in by_word), None)
    if part is None and len(parts) > 1:
        raise DataError(f"{source} has the parts {known}; choose one of them, or all, by `split`.")
    return part or next(iter(parts))
