"""Small versions of images of one size, by which images are compared: gray levels and tints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coview.core.images import ImageStore
from coview.core.progress import Advance

SIDE, TINT_SIDE = 64, 16
CHUNK = 64
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
    """The signatures of all images of ``store``, which is read once, in chunks of 64 images.

    ``advance`` is called with the number of images after each chunk.

    >>> from coview.core.images import store_from_arrays
    >>> white = signatures(store_from_arrays(np.full((1, 9, 5, 3), 255, np.uint8)))
    >>> white.gray.shape, int(white.gray.min()), int(white.tints.max())
    ((1, 64, 64), 255, 0)
    """
    from PIL import Image

    gray = np.empty((len(store), SIDE, SIDE), np.uint8)
    tints = np.empty((len(store), TINT_SIDE, TINT_SIDE, 2), np.int8)
    cell = SIDE // TINT_SIDE
    for first in range(0, len(store), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(store)))
        window = store.window(rows)
        for place, row in enumerate(rows):
            height, width = int(window.heights[place]), int(window.widths[place])
            start = int(window.starts[place])
            block = window.pixels[start : start + height * width]
            picture = Image.frombuffer("RGBX", (width, height), block, "raw", "RGBX", 0, 1)
            small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
            color = np.asarray(small)[..., :3].astype(np.float32)
            luma = color @ GRAY
            gray[row] = np.rint(luma)
            tint = (color[..., ::2] - luma[..., None]).reshape(TINT_SIDE, cell, TINT_SIDE, cell, 2)
            tints[row] = np.rint(tint.mean(axis=(1, 3)) / 2)
        if advance is not None:
            advance(len(rows))
    return Signatures(gray=gray, tints=tints)
