"""What a page over images shows: points of a map, vectors, pictures, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore

Floats = npt.NDArray[np.float32]
MAX_MARKS = 31
"""Marks are bits of a 32-bit integer that a page reads as a positive number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facet:
    """A property that images are filtered and colored by.

    ``codes`` int32 [N] are indices in ``values``, -1 where an image has none. Of ``marks`` an image
    may have several: its code is the sum of 2 ** index over them, 0 for none.

    >>> Facet(name="class", title="Class", values=("cat", "dog"), codes=np.array([1, 1, -1])).counts
    [0, 2]
    >>> Facet(name="a", title="A", values=("x", "y"), codes=np.array([3, 2]), marks=True).counts
    [1, 2]
    """

    name: str
    title: str
    values: tuple[str, ...]
    codes: npt.NDArray[Any]
    marks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", np.ascontiguousarray(self.codes, dtype=np.int32))
        if self.marks and len(self.values) > MAX_MARKS:
            raise InvalidValue(
                f"`values` has {len(self.values)} marks; expected at most {MAX_MARKS}."
            )

    @property
    def counts(self) -> list[int]:
        """The number of images with each value."""
        if self.marks:
            return [int((self.codes >> bit & 1).sum()) for bit in range(len(self.values))]
        known = self.codes[self.codes >= 0]
        return list(map(int, np.bincount(known, minlength=len(self.values))))


Encode = Callable[[bytes, str], Floats]
"""The bytes of an image file and its name -> its vector, float32 [D]. Raises CoviewError."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """N images as a page shows them.

    ``store`` has pixels, ids and names, ``paths`` the file of each image, None where it is no file
    of its own. ``encode`` turns an image file into a vector; without it none can be searched by.
    Shapes: points float32 [N, 2] in [0, 1], y downwards; vectors float32 [N, D] of any length;
    scores, each float32 [N], by which a list of images can be sorted.
    Raises InvalidValue where the shapes differ.
    """

    title: str
    store: ImageStore
    paths: Sequence[Path | None]
    points: Floats
    vectors: Floats
    facets: tuple[Facet, ...] = ()
    scores: Mapping[str, Floats] = field(default_factory=dict)
    encode: Encode | None = None

    def __post_init__(self) -> None:
        lengths = {
            "paths": len(self.paths), "points": len(self.points), "vectors": len(self.vectors),
            **{each.name: len(each.codes) for each in self.facets},
            **{name: len(values) for name, values in self.scores.items()},
        }  # fmt: skip
        for name, length in lengths.items():
            if length != len(self.store):
                raise InvalidValue(f"`{name}` has {length} rows; expected {len(self.store)}.")

    def __len__(self) -> int:
        return len(self.store)

    def arrays(self) -> bytes:
        """Points, codes of all facets and scores one after the other, as little-endian 32 bits.

        Points that are not finite lie in the center.
        """
        points = np.nan_to_num(np.clip(self.points, 0, 1), nan=0.5).astype("<f4")
        parts = [points, *(each.codes.astype("<i4") for each in self.facets)]
        parts += [np.asarray(values, dtype="<f4") for values in self.scores.values()]
        return b"".join(part.tobytes() for part in parts)
