"""Small pictures on demand: one image, or many on a sheet, in a cache of bounded size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError
from coview.core.images import ImageStore
from coview.reports.pictures import encode_jpeg, shrink

Pixels = npt.NDArray[np.uint8]

CACHE_BYTES = 64 * 2**20
SHEET_COLUMNS = 16


class Thumbnails:
    """The pictures of a store, as JPEG. Safe for several threads.

    ``cache_bytes`` bounds what is kept of pictures that were made before.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((3, 40, 20, 3), np.uint8))
    >>> Thumbnails(store).jpeg(0, 10)[:2] == bytes([0xFF, 0xD8])
    True
    """

    def __init__(self, store: ImageStore, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.store, self.cache_bytes = store, cache_bytes
        self.used_bytes = 0
        self._kept: OrderedDict[tuple[int, int, bool], bytes | Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def jpeg(self, row: int, side: int) -> bytes:
        """The whole image in at most ``side`` x ``side`` pixels; a smaller one keeps its size."""
        key = (row, side, False)
        content = self._get(key)
        if content is None:
            content = encode_jpeg(shrink(self.store.image(row), side))
            self._put(key, content)
        assert isinstance(content, bytes)
        return content

    def square(self, row: int, side: int) -> Pixels:
        """The center square of the image, uint8 [side, side, 3]."""
        key = (row, side, True)
        pixels = self._get(key)
        if pixels is None:
            pixels = center_square(self.store.image(row), side)
            self._put(key, pixels)
        assert not isinstance(pixels, bytes)
        return pixels

    def sheet(self, rows: Sequence[int], side: int, *, missing: list[int] | None = None) -> bytes:
        """The center squares of ``rows``, 16 in a line, as one JPEG.

        A row that cannot be decoded any more is added to ``missing``, and its square is crossed
        out; without that list it raises CoviewError.
        """
        lines = -(-len(rows) // SHEET_COLUMNS)
        pixels = np.zeros((lines * side, SHEET_COLUMNS * side, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            top, left = place // SHEET_COLUMNS * side, place % SHEET_COLUMNS * side
            tile = pixels[top : top + side, left : left + side]
            try:
                tile[:] = self.square(row, side)
            except CoviewError:
                if missing is None:
                    raise
                missing.append(row)
                _cross_out(tile)
        return encode_jpeg(pixels, quality=82)

    def _get(self, key: tuple[int, int, bool]) -> bytes | Pixels | None:
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def _put(self, key: tuple[int, int, bool], value: bytes | Pixels) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value
            self.used_bytes += _size(value)
            while self.used_bytes > self.cache_bytes and self._kept:
                self.used_bytes -= _size(self._kept.popitem(last=False)[1])


def _cross_out(tile: Pixels) -> None:
    """Both diagonals, dark on gray: it is no image."""
    tile[:], places = 150, np.arange(len(tile))
    tile[places, places] = tile[places, places[::-1]] = 60


def _size(value: bytes | Pixels) -> int:
    return len(value) if isinstance(value, bytes) else value.nbytes


def center_square(pixels: Pixels, side: int) -> Pixels:
    """The center square of the image, resized to uint8 [side, side, 3].

    >>> center_square(np.zeros((40, 20, 3), np.uint8), 8).shape
    (8, 8, 3)
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = np.ascontiguousarray(pixels[top : top + short, left : left + short])
    if short == side:
        return square
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BOX
                      if short > side else Image.Resampling.BICUBIC, reducing_gap=2.0))  # fmt: skip
