"""The seam between the readers and the one decoding pipeline: what a source holds, undecoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.core.files import digest
from coview.core.images import image_id
from coview.core.rng import LIMITED_IMAGES, Stream, permutation

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that cannot be used, with the reason in a few words."""

    reason: str


Content: TypeAlias = "bytes | Path | npt.NDArray[Any] | Callable[[], Image.Image] | Rejected"
"""One undecoded image: encoded bytes, a file, an array, or a call that opens it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """N named images of one source, known before any is decoded.

    ``contents(rows)`` yields (content, its approximate size in bytes) of the given ascending rows,
    in that order. ``stamp`` changes when the source does (names, sizes, times), so that decoded
    pixels can be kept under it. Shapes: ids int64 [N]; labels int64 [N], -1 unknown, or None.
    """

    source: str
    names: Sequence[str]
    contents: Callable[[npt.NDArray[np.int64]], Iterator[tuple[Content, int]]]
    stamp: str
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def ids_of(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The stable id of every name. Raises DataError where two images would share one.

    Shapes: names N -> int64 [N].
    """
    ids = np.fromiter((image_id(name) for name in names), dtype=np.int64, count=len(names))
    order = np.argsort(ids, kind="stable")
    twins = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twins):
        first, second = names[order[twins[0]]], names[order[twins[0] + 1]]
        raise DataError(
            f"The images {first!r} and {second!r} have the same id; rename or remove one of them."
        )
    return ids


def choose(listing: Listing, limit: int | None, seed: int) -> npt.NDArray[np.int64]:
    """The rows to use, ascending: all, or ``limit`` of them drawn by (seed, id)."""
    if limit is None or limit >= len(listing):
        return np.arange(len(listing), dtype=np.int64)
    # Epoch 1 of the split's numbers: epoch 0 decides what is held out, and the two must not agree.
    return np.sort(permutation(seed, Stream.SPLIT, listing.ids, draw_index=LIMITED_IMAGES)[:limit])


def without_labels(listing: Listing) -> Listing:
    """The same images, their labels left unread."""
    return replace(listing, labels=None, class_names=())


def stamp_of(lines: Iterable[str]) -> str:
    """The digest of a description of the source, one fact a line."""
    return digest("\n".join(lines).encode("utf-8", "surrogateescape"))
