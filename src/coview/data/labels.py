"""Which labels are used: class-balanced, nested, seeded subsets of labeled images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError, InvalidValue
from coview.core.files import read_content
from coview.core.images import ImageStore
from coview.core.paths import absolute_path, local_path
from coview.core.places import Kind, place_of
from coview.core.rng import LABEL_SUBSET, Stream, permutation

Rows = npt.NDArray[np.int64]


def label_subset(store: ImageStore, labels: str, *, draw: int = 0) -> Rows:
    """The rows whose labels are used, ascending, int64.

    ``labels`` is a share ("1%"), a number of each class ("25-per-class"), or a file with the name
    of one image in each line. The classes get equally many images; a class with fewer gives all
    that it has. Of one ``draw`` a smaller subset lies within every larger one (SimCLR's published
    lists of 1 % and 10 % of ImageNet do as well). Only labeled images count.

    Raises InvalidValue for other words, DataError where a class would have no image.

    >>> from coview.core.images import store_from_arrays
    >>> images = np.zeros((40, 2, 2, 3), dtype=np.uint8)
    >>> store = store_from_arrays(images, labels=np.arange(40) % 4, class_names=tuple("abcd"))
    >>> few, more = label_subset(store, "10%"), label_subset(store, "5-per-class")
    >>> len(few), len(more), set(few) <= set(more)
    (4, 20, True)
    """
    if store.labels is None or not (store.labels >= 0).any():
        raise DataError(f"{store.source} has no labels to choose from.")
    known = np.flatnonzero(store.labels >= 0)
    check_labels(labels)
    share, each = share_of_labels(labels), _number_of_each(labels)
    if share is None and each is None:
        return _named(store, local_path(labels), known)
    classes, counts = np.unique(store.labels[known], return_counts=True)
    total = (
        round(share * len(known)) if share is not None
        else int(np.minimum(counts, each or 0).sum())
    )  # fmt: skip
    if total < len(classes):
        raise DataError(
            f"`labels` {labels} of {len(known):,} labeled images are {total} labels for "
            f"{len(classes)} classes; give at least one of each."
        )
    quotas = _balanced(counts, total, classes, draw)
    order = known[permutation(draw, Stream.SPLIT, store.ids[known], draw_index=LABEL_SUBSET)]
    chosen = [
        order[store.labels[order] == label][:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def share_of_labels(labels: str) -> float | None:
    """The share in "1%", as 0.01; None where ``labels`` is no share. Raises InvalidValue.

    >>> share_of_labels("10%"), share_of_labels("25-per-class")
    (0.1, None)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", labels)
    if match is None:
        return None
    share = float(match[1]) / 100
    if not 0 < share <= 1:
        raise InvalidValue(f"`labels` is {labels!r}; expected a share above 0 % and up to 100 %.")
    return share


def names_a_file(labels: str) -> bool:
    """Whether ``labels`` is a file of names, and no share or number."""
    return not _is_rule(labels) and bool(labels) and place_of(labels).kind is Kind.FILE


def absolute_labels(labels: str) -> str:
    """A file of names from any working folder; other words as they are.

    >>> absolute_labels("25-per-class")
    '25-per-class'
    """
    return str(absolute_path(labels)) if names_a_file(labels) else labels


def check_labels(labels: str) -> None:
    """Raise InvalidValue unless ``labels`` is a share, a number of each class, or a file.

    >>> check_labels("25-per-class")
    """
    if _is_rule(labels) or names_a_file(labels):
        return
    place = place_of(labels or ".")
    if place.kind is Kind.UNREADABLE:
        raise DataError(f"The file of labels {place.path} cannot be read: {place.reason}.")
    if not names_a_file(labels):
        raise InvalidValue(
            f"`labels` is {labels!r}; expected a share such as 1%, a number such as 25-per-class, "
            "or a file with the name of one image in each line (there is no such file)."
        )


def _is_rule(labels: str) -> bool:
    return share_of_labels(labels) is not None or _number_of_each(labels) is not None


def _number_of_each(labels: str) -> int | None:
    """The number in "25-per-class"; None for other words."""
    match = re.fullmatch(r"(\d+)-per-class", labels)
    return None if match is None else int(match[1])


def _balanced(counts: npt.NDArray[np.int64], total: int, classes: Rows, draw: int) -> list[int]:
    """The images of each class: the same number of all, as far as they have them.

    The remainder goes to one image more of some classes, in an order that depends on ``draw``
    alone, so that subsets of growing totals are nested.
    """
    level = 0
    while np.minimum(counts, level + 1).sum() <= total and level < counts.max():
        level += 1
    quotas = np.minimum(counts, level)
    order = permutation(draw, Stream.SPLIT, classes.astype(np.int64), draw_index=LABEL_SUBSET)
    larger = [place for place in order if counts[place] > level]
    quotas[larger[: total - int(quotas.sum())]] += 1
    return [int(quota) for quota in quotas]


def _named(store: ImageStore, path: Path, known: Rows) -> Rows:
    """The rows of the images that a file names."""
    # Names that are not UTF-8 are escaped in a store; here they may be either.
    text = (read_content(path) or b"").decode("utf-8-sig", "backslashreplace")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    rows = {store.names[int(row)]: int(row) for row in known}
    missing = [name for name in names if name not in rows]
    if missing or not names:
        listed = ", ".join(missing[:3]) or "nothing"
        raise DataError(
            f"{path} names {len(missing):,} images that are not among the labeled ones, such as "
            f"{listed}; names look like {next(iter(rows))!r}."
        )
    return np.unique(np.array([rows[name] for name in names], dtype=np.int64))
