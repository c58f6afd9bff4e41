"""Outlines of objects as pixels, and pixels as run lengths in COCO's format.

A pixel belongs to a polygon where its center lies inside (even-odd rule). Run lengths count down
the columns, the first run is of zeros; as text they are COCO's: differences to the run before the
last, six bits to a character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import DataError
from coview.data.annotations import Outline

Mask = npt.NDArray[np.uint8]


def fill_outline(outline: Outline, size: tuple[int, int], annotated: tuple[int, int]) -> Mask:
    """The pixels of an outline in an image of ``size``, uint8 [height, width] of 0 and 1.

    ``annotated``: (height, width) of the image that the outline's coordinates are of. Raises
    DataError for run lengths of another size.

    >>> fill_outline([[0, 0, 4, 0, 4, 2, 0, 2]], (2, 2), (4, 4)).tolist()
    [[1, 1], [0, 0]]
    """
    scale = np.array([size[1] / annotated[1], size[0] / annotated[0]])
    if isinstance(outline, dict):
        if tuple(outline["size"]) != annotated:
            raise DataError(
                f"An outline is of {tuple(outline['size'])} pixels, its image of {annotated}."
            )
        mask = decode_rle(outline)
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.int64), m - 1)
            for n, m in zip(size, annotated, strict=True)
        )
        return mask[rows[:, None], columns[None]]
    mask = np.zeros(size, np.uint8)
    for polygon in outline or ():
        mask |= fill_polygon(np.asarray(polygon, np.float64).reshape(-1, 2) * scale, size)
    return mask


def fill_polygon(points: npt.NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """The pixels whose centers lie within the polygon of ``points`` [P, 2], (x, y)."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.int32)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        low, high = sorted((y1, y2))
        rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
        x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)
    inside: Mask = (np.cumsum(crossings, axis=1)[:, :width] % 2).astype(np.uint8)
    return inside


def encode_rle(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """A mask [height, width] of zeros and ones as {"size", "counts"}, the counts as text.

    >>> encode_rle(np.array([[0, 1], [0, 1]]))
    {'size': [2, 2], 'counts': '22'}
    """
    flat = np.asarray(mask).T.ravel().astype(bool)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)])
    if len(flat) and flat[0]:
        counts = np.concatenate([[0], counts])
    return {"size": [int(n) for n in np.asarray(mask).shape], "counts": _to_text(counts.tolist())}


def decode_rle(rle: dict[str, Any]) -> Mask:
    """The mask of {"size", "counts"}, the counts as numbers or as text. Raises DataError.

    >>> decode_rle({"size": [2, 2], "counts": [2, 2]}).tolist()
    [[0, 1], [0, 1]]
    """
    height, width = (int(n) for n in rle["size"])
    counts = _of_text(rle["counts"]) if isinstance(rle["counts"], str) else rle["counts"]
    if height < 1 or width < 1:
        raise DataError(f"An outline is of {height} x {width} pixels; expected at least 1 x 1.")
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise DataError(
            f"An outline's run lengths have {sum(counts)} pixels; its size is {height} x {width}."
        )
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return values.astype(np.uint8).reshape(width, height).T


def _to_text(counts: Sequence[int]) -> str:
    letters = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | 32 if more else bits) + 48))
            if not more:
                break
    return "".join(letters)


def _of_text(text: str) -> list[int]:
    counts: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    return counts
