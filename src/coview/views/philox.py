"""The numba kernel that draws tables: Philox4x32-10, bit for bit that of core.keys."""

from __future__ import annotations

import itertools
import math

import numba
import numpy as np

jit = numba.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)

ORDERS = np.array(list(itertools.permutations(range(4))), dtype=np.int32)
ATTEMPTS = 10

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_WORD, _BYTE = np.uint64(32), np.uint32(8)
_UNIT = np.float32(2.0**-24)


@jit
def block(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four uniforms in [0, 1) of one counter; all six words are uint32."""
    for _ in range(10):
        p0, p1 = np.uint64(c0) * _MULTIPLIER_0, np.uint64(c2) * _MULTIPLIER_1
        c0, c2 = np.uint32(p1 >> _WORD) ^ c1 ^ k0, np.uint32(p0 >> _WORD) ^ c3 ^ k1
        c1, c3 = np.uint32(p1), np.uint32(p0)
        k0, k1 = np.uint32(k0 + _WEYL_0), np.uint32(k1 + _WEYL_1)
    return (
        np.float32(c0 >> _BYTE) * _UNIT,
        np.float32(c1 >> _BYTE) * _UNIT,
        np.float32(c2 >> _BYTE) * _UNIT,
        np.float32(c3 >> _BYTE) * _UNIT,
    )


@jit
def between(bounds, u):  # type: ignore[no-untyped-def]
    """``u`` in [0, 1) stretched to the two bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


@jit
def fallback(height, width, low, high):  # type: ignore[no-untyped-def]
    """Height and width of the largest central crop whose ratio lies within the bounds."""
    ratio = width / height
    if ratio < low:
        return max(1, min(height, round(width / low))), width
    if ratio > high:
        return height, max(1, min(width, round(height * high)))
    return height, width


@jit
def place(row, word, height, width, key, counter, crop):  # type: ignore[no-untyped-def]
    """Draw the crop of one row as RandomResizedCrop does: the first attempt that fits.

    ``crop`` holds the bounds of area, of ratio and of the logarithm of ratio.
    """
    low, high = np.uint32(word), np.uint32(word >> _WORD)
    for attempt in range(ATTEMPTS):
        index = np.uint32(counter[0] + np.uint32(3 + attempt))
        u, v, s, t = block(index, low, high, counter[1], key[0], key[1])
        area = height * width * between(crop[:2], u)
        ratio = math.exp(between(crop[4:], v))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            row.top, row.left = int(s * (height - h + 1)), int(t * (width - w + 1))
            row.height, row.width = h, w
            return
    h, w = fallback(height, width, crop[2], crop[3])
    row.top, row.left, row.height, row.width = (height - h) // 2, (width - w) // 2, h, w


@jit
def center(row, height, width):  # type: ignore[no-untyped-def]
    """The central square."""
    side = min(height, width)
    row.top, row.left = (height - side) // 2, (width - side) // 2
    row.height, row.width = side, side


@jit
def fill(table, words, heights, widths, key, counter, crop, chances, ranges):  # type: ignore[no-untyped-def]
    """Draw every row of ``table``; see draw.py for the place of each uniform."""
    first, epoch = counter
    for n in range(len(table)):
        row = table[n]
        low, high = np.uint32(words[n]), np.uint32(words[n] >> _WORD)
        if len(crop) == 0:
            center(row, heights[n], widths[n])
        else:
            place(row, words[n], heights[n], widths[n], key, counter, crop)
        flip, jitter, gray, blur = block(first, low, high, epoch, key[0], key[1])
        factors = block(np.uint32(first + np.uint32(1)), low, high, epoch, key[0], key[1])
        order, sigma, solarize, _ = block(
            np.uint32(first + np.uint32(2)), low, high, epoch, key[0], key[1]
        )
        row.flip, row.gray = flip < chances[0], gray < chances[2]
        row.solarize = solarize < chances[4]
        for k in range(4):
            row.order[k] = ORDERS[int(order * np.float32(24)), k] if jitter < chances[1] else -1
            row.factor[k] = between(ranges[k], factors[k])
        row.sigma = between(ranges[4], sigma) if blur < chances[3] else 0.0
