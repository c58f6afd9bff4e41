"""Small versions of images of one size, by which images are compared: gray levels and tints."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coview.core.ahead import map_ahead
from coview.core.images import ImageStore, ImageWindow
from coview.core.machine import cores
from coview.core.progress import Advance

SIDE, TINT_SIDE = 64, 16
CHUNK, MAX_WORKERS = 16, 8
GRAY = np.array([0.299, 0.587, 0.114], np.float32)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Every image brought to one size, whatever its sides: 4.6 kB an image.

    Shapes: gray uint8 [N, 64, 64], the luma; tints int8 [N, 16, 16, 2], half of red minus luma and
    of blue minus luma.
    """

    gray: npt.NDArray[np.uint8]
    tints: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.gray)

    def subset(self, rows: Rows) -> Signatures:
        """The signatures of some images, in that order."""
        return replace(self, gray=self.gray[rows], tints=self.tints[rows])

    def followed_by(self, other: Signatures) -> Signatures:
        """These signatures and then the other ones."""
        return Signatures(
            gray=np.concatenate([self.gray, other.gray]),
            tints=np.concatenate([self.tints, other.tints]),
        )


def signatures(store: ImageStore, advance: Advance | None = None) -> Signatures:
    """The signatures of all images of ``store``, which is read once, 16 images at a time, by
    several threads: the images may have to be decoded.

    ``advance`` is called with the number of images after each chunk.

    >>> from coview.core.images import store_from_arrays
    >>> white = signatures(store_from_arrays(np.full((1, 9, 5, 3), 255, np.uint8)))
    >>> white.gray.shape, int(white.gray.min()), int(white.tints.max())
    ((1, 64, 64), 255, 0)
    """
    gray = np.empty((len(store), SIDE, SIDE), np.uint8)
    tints = np.empty((len(store), TINT_SIDE, TINT_SIDE, 2), np.int8)

    def fill(first: int) -> int:
        rows = np.arange(first, min(first + CHUNK, len(store)))
        window = store.window(rows)
        for place, row in enumerate(rows):
            gray[row], tints[row] = _signature(window, place)
        return len(rows)

    starts, workers = range(0, len(store), CHUNK), min(cores(), MAX_WORKERS)
    with contextlib.closing(map_ahead(fill, starts, workers, name="signatures")) as filled:
        for count in filled:
            if advance is not None:
                advance(count)
    return Signatures(gray=gray, tints=tints)


def _signature(
    window: ImageWindow, place: int
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Gray levels [64, 64] and tints [16, 16, 2] of one image of a window, rounded."""
    from PIL import Image

    height, width = int(window.heights[place]), int(window.widths[place])
    start, cell = int(window.starts[place]), SIDE // TINT_SIDE
    block = window.pixels[start : start + height * width]
    picture = Image.frombuffer("RGBX", (width, height), block, "raw", "RGBX", 0, 1)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    color = np.asarray(small)[..., :3].astype(np.float32)
    luma = color @ GRAY
    tint = (color[..., ::2] - luma[..., None]).reshape(TINT_SIDE, cell, TINT_SIDE, cell, 2)
    return np.rint(luma), np.rint(tint.mean(axis=(1, 3)) / 2)
