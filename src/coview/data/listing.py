"""The interface between the readers of sources and the decoder: named, undecoded images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.files import digest
from coview.core.images import image_id
from coview.core.rng import LIMITED_IMAGES, Stream, drawn_rows

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that cannot be used, with the reason in a few words.

    ``may_pass``: the file system refused it, not its content; another time it may be readable.
    """

    reason: str
    may_pass: bool = False


class Unusable(Exception):
    """An image cannot be decoded, or not faithfully; the message is the reason."""


Content: TypeAlias = "bytes | Path | npt.NDArray[Any] | Callable[[], Image.Image] | Rejected"
"""One undecoded image: encoded bytes, a file, an array, or a call that opens it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """N named images of one source, listed before any is decoded.

    ``contents(rows)`` yields (content, its approximate size in bytes) of the given ascending rows,
    in that order. ``stamp`` is a hash that changes with the source (names, sizes, times); decoded
    pixels are cached under it. ``notes`` are sentences for the user. ``unreadable`` lists places
    that could not be looked at as (name, reason). ``parts`` are those that the source has, of which
    this is one. ``is_sequential``: reading a few rows takes as long as reading all before them.
    ``stamps`` changes for an image where its file has changed (:func:`row_stamps`); None where
    nothing tells that but the pixels. ``path_of``: row -> its file; None where images are no files
    of their own.
    Shapes: ids int64 [N]; labels int64 [N], -1 unknown, or None; stamps int64 [N], or None.
    """

    source: str
    names: Sequence[str]
    contents: Callable[[npt.NDArray[np.int64]], Iterator[tuple[Content, int]]]
    stamp: str
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    parts: tuple[str, ...] = ()
    is_sequential: bool = False
    stamps: npt.NDArray[np.int64] | None = None
    path_of: Callable[[int], Path] | None = None

    def __len__(self) -> int:
        return len(self.names)


def image_ids(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The stable id of every name. Raises DataError if two images would share one.

    Shapes: names N -> int64 [N].
    """
    ids = np.fromiter((image_id(name) for name in names), dtype=np.int64, count=len(names))
    order = np.argsort(ids, kind="stable")
    equal = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(equal):
        first, second = names[order[equal[0]]], names[order[equal[0] + 1]]
        raise DataError(
            f"The images {first!r} and {second!r} have the same id; rename or remove one of them."
        )
    return ids


def utf8_name(name: str) -> str:
    """``name`` as every file of a run can hold it: what is not UTF-8 is escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def select_rows(listing: Listing, limit: int | None, seed: int) -> npt.NDArray[np.int64]:
    """The rows to use, ascending: all, or ``limit`` of them selected by (seed, id)."""
    if limit is None or limit >= len(listing):
        return np.arange(len(listing), dtype=np.int64)
    return drawn_rows(seed, Stream.SPLIT, listing.ids, limit, draw_index=LIMITED_IMAGES)


def file_fact(name: str | Path, status: os.stat_result | None) -> str:
    """What tells a file from one in its place, for a stamp; ``status`` None: nothing is known."""
    if status is None:
        return f"{name} ?"
    # The second time moves with content under an old date, and with a mended permission.
    return f"{name} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def row_stamps(facts: Iterable[str], counts: Iterable[int] | None = None) -> npt.NDArray[np.int64]:
    """The hash of each image's file, by its fact; of ``counts`` images in a file each another one.

    Shapes: int64 [N].

    >>> row_stamps(["a 1", "b 1"], [2, 1]).shape
    (3,)
    """
    hashes = np.array([image_id(fact) for fact in facts], dtype=np.int64)
    if counts is None:
        return hashes
    rows = [np.arange(count, dtype=np.int64) for count in counts]
    return np.concatenate([base ^ part for base, part in zip(hashes, rows, strict=True)])


def hash_lines(lines: Iterable[str]) -> str:
    """The digest of a description of the source, one fact per line."""
    return digest("\n".join(lines).encode("utf-8", "surrogateescape"))
