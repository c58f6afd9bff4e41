"""Decoded images of any sizes, as uint8: a store of all of them, and a window on some."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.paths import absolute_path
from coview.core.text import byte_size

OWN_PICTURE = ("Software", "Coview contact sheet")
"""The text in a PNG that Coview draws: it is no image to learn from, wherever it lies."""

_BLOCK, _MULTIPLIER = 1 << 14, 0x9E3779B97F4A7C15
_CONSTANTS = np.random.PCG64(0).random_raw(_BLOCK) | np.uint64(1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageWindow:
    """The pixels of B images, as a renderer reads them.

    Image k is ``pixels[starts[k] : starts[k] + heights[k] * widths[k]]``, row by row. A pixel has
    four bytes (R, G, B, unused), so that a renderer loads it as one word.

    Shapes: pixels uint8 [P, 4], contiguous and read-only, perhaps with other images between those
    of the window; starts int64 [B], counted in pixels; heights, widths int32 [B].
    """

    pixels: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, part: slice) -> ImageWindow:
        """The window on some of its images; pixels are shared."""
        return replace(
            self, starts=self.starts[part], heights=self.heights[part], widths=self.widths[part]
        )


Decoder = Callable[[npt.NDArray[np.int64]], Sequence[npt.NDArray[np.uint8]]]
"""Distinct ascending places of images -> the pixels of each, uint8 [height * width, 4]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageStore:
    """N decoded RGB images; views are rendered from a :meth:`window` on some of its rows.

    ``pixels`` and ``starts`` are the layout of a resident store. With a ``decoder`` nothing is
    resident: ``pixels`` is empty, ``starts`` are the places that the decoder takes, and
    :meth:`window` decodes. Only this module and the code that fills stores use these fields;
    everything else calls :meth:`window` or :meth:`image`. ``kept`` says in words where the pixels
    are, if that is not memory.

    Shapes: pixels uint8 [P, 4] (memory or memory-mapped), laid out as in :class:`ImageWindow`;
    starts int64 [N]; heights, widths int32 [N]; ids int64 [N], unique and stable; labels int64 [N]
    with -1 where unknown, or None; content int64 [N], the :func:`pixel_hash` of each image.

    ``names`` are unique within the source (a relative path, or "train.parquet#17"). ``quarantine``
    lists the unusable images and unreadable places as (name, reason). ``notes`` are sentences about
    the source that a user should read, such as which files were ignored. ``parts`` are those of the
    source, such as train and test, where it has any. ``brightest``: the gray level that 99 % of the
    images of 16 bits do not exceed whose white is not declared; -1 where there are none.

    >>> store = store_from_arrays(np.zeros((3, 2, 2, 3), np.uint8))
    >>> len(store), store.image(0).shape
    (3, (2, 2, 3))
    """

    pixels: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int32]
    widths: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int64]
    content: npt.NDArray[np.int64]
    names: Sequence[str]
    labels: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    source: str = ""
    quarantine: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    decoder: Decoder | None = None
    kept: str = ""
    brightest: int = -1

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def storage(self) -> str:
        """Where the pixels are, in words, and how large they are."""
        return self.kept or f"{byte_size(self.pixels.nbytes)} in memory"

    def window(self, rows: npt.NDArray[np.int64]) -> ImageWindow:
        """The pixels of the given rows, in that order; a resident store copies none.

        Shapes: rows int64 [B], repetitions allowed. Raises DataError where an image cannot be
        decoded any more.
        """
        starts, heights, widths = self.starts[rows], self.heights[rows], self.widths[rows]
        if self.decoder is None:
            pixels = self.pixels.view(np.ndarray)
        else:
            places, inverse = np.unique(starts, return_inverse=True)
            images = self.decoder(places)
            pixels = np.concatenate([*images, self.pixels])
            ends = np.cumsum([0, *map(len, images)], dtype=np.int64)
            starts = ends[inverse]
        pixels.flags.writeable = False
        return ImageWindow(pixels=pixels, starts=starts, heights=heights, widths=widths)

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        """One image, uint8 [H, W, 3]."""
        height, width = int(self.heights[row]), int(self.widths[row])
        start, pixels = int(self.starts[row]), self.pixels
        if self.decoder is not None:
            start, (pixels,) = 0, self.decoder(self.starts[[row]])
        return pixels[start : start + height * width].reshape(height, width, 4)[..., :3]

    def subset(self, rows: npt.NDArray[np.int64]) -> ImageStore:
        """The store of the given rows, in that order; pixels are shared, not copied."""
        return replace(
            self, starts=self.starts[rows], heights=self.heights[rows], widths=self.widths[rows],
            ids=self.ids[rows], content=self.content[rows],
            names=[self.names[int(row)] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
        )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """Hash of ids, sizes, pixels and labels: two stores of the same data agree."""
        return images_fingerprint(self.ids, self.heights, self.widths, self.content, self.labels)

    @property
    def unlabeled_fingerprint(self) -> str:
        """The same without labels, which not every use of the images reads."""
        return images_fingerprint(self.ids, self.heights, self.widths, self.content, None)


def images_fingerprint(
    ids: npt.NDArray[np.int64], heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32],
    content: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None,
) -> str:  # fmt: skip
    """32 hexadecimal digits of the arrays of a store: the fingerprint of its images."""
    hasher = hashlib.blake2b(digest_size=16)
    for array in (ids, heights, widths, content, labels):
        hasher.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def image_id(name: str) -> int:
    """The stable 64-bit id of an image: BLAKE2b-64 of its name, as a signed integer.

    >>> image_id("cats/1.jpg")
    -5028814578785424323
    """
    raw = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(raw, "little", signed=True)


def pixel_hash(pixels: bytes | memoryview) -> int:
    """64 bits that tell the pixels of one image from others, as a signed integer.

    The sum of all words times odd constants, modulo 2^64, block by block. Every change of one word
    changes it, as does another order. It costs 6 % of decoding a JPEG of 320 x 240 pixels, where
    BLAKE2b costs 75 %; it finds every accident and no deceit.

    >>> pixel_hash(bytes(8)) == pixel_hash(bytes(7) + bytes([1]))
    False
    """
    view = memoryview(pixels).cast("B")
    whole = len(view) // 8 * 8
    words = np.frombuffer(view[:whole], dtype="<u8")
    value = int.from_bytes(view[whole:], "little") + len(view)
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        value = (value * _MULTIPLIER + int(np.dot(block, _CONSTANTS[: len(block)]))) % (1 << 64)
    return value - (1 << 64) if value >= 1 << 63 else value


def pixel_hashes(
    pixels: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], areas: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The :func:`pixel_hash` of every image in a buffer [P, 4]. Shapes: int64 [N]."""
    parts = (pixels[s : s + a].data for s, a in zip(starts.tolist(), areas.tolist(), strict=True))
    return np.fromiter((pixel_hash(part) for part in parts), dtype=np.int64, count=len(starts))


def pack_pixels(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] -> [H * W, 4] in the layout of a store."""
    packed = np.zeros((image.shape[0] * image.shape[1], 4), dtype=np.uint8)
    packed[:, :3] = image.reshape(-1, 3)
    return packed


def store_from_arrays(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8], *,
    labels: npt.NDArray[np.int64] | None = None, class_names: tuple[str, ...] = (),
    names: Sequence[str] | None = None, source: str = "arrays",
) -> ImageStore:  # fmt: skip
    """A store of uint8 images [H, W, 3] of any sizes that are in memory already.

    >>> store_from_arrays(np.zeros((2, 4, 4, 3), np.uint8)).names
    ['arrays#0', 'arrays#1']
    """
    names = [f"{source}#{i}" for i in range(len(images))] if names is None else names
    heights = np.array([image.shape[0] for image in images], dtype=np.int32)
    widths = np.array([image.shape[1] for image in images], dtype=np.int32)
    areas = heights.astype(np.int64) * widths
    starts = np.concatenate([[0], np.cumsum(areas)[:-1]]).astype(np.int64)
    pixels = np.concatenate([pack_pixels(image) for image in images])
    ids = np.array([image_id(name) for name in names], dtype=np.int64)
    return ImageStore(
        pixels=pixels, starts=starts, heights=heights, widths=widths, ids=ids,
        content=pixel_hashes(pixels, starts, areas), names=names, labels=labels,
        class_names=class_names, source=source,
    )  # fmt: skip


def cache_folder() -> Path:
    """Where memory-mapped stores live: $COVIEW_CACHE, else the user's cache folder.

    A user without a home folder gets one below that of temporary files.
    """
    if base := os.environ.get("COVIEW_CACHE"):
        return absolute_path(base)
    try:
        return absolute_path("~/.cache/coview")
    except InvalidValue:
        return Path(tempfile.gettempdir()) / "coview-cache"
