"""The kernel that samples rows of FUSED_ROW: Philox4x32-10, bit for bit that of core.rng."""

from __future__ import annotations

import itertools
import math

import numpy as np

from coview.views.fused.compiler import compiled

jit = compiled(nogil=True, error_model="numpy", boundscheck=False)

ORDERS = np.array(list(itertools.permutations(range(4))), dtype=np.int32)
ATTEMPTS = 10

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_WORD, _BYTE = np.uint64(32), np.uint32(8)
_UNIT = np.float32(2.0**-24)


@jit
def draw_block(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
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
def scale_to(bounds, u):  # type: ignore[no-untyped-def]
    """``u`` in [0, 1) scaled to the two bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


@jit
def central_crop_size(height, width, low, high):  # type: ignore[no-untyped-def]
    """Height and width of the largest central crop whose ratio lies within the bounds."""
    ratio = width / height
    if ratio < low:
        return max(1, min(height, round(width / low))), width
    if ratio > high:
        return height, max(1, min(width, round(height * high)))
    return height, width


@jit
def sample_crop(row, word, height, width, key, counter, crop):  # type: ignore[no-untyped-def]
    """Sample the crop of one row as RandomResizedCrop does: the first attempt that fits.

    ``crop`` holds the bounds of area, of ratio and of the logarithm of ratio.
    """
    low, high = np.uint32(word), np.uint32(word >> _WORD)
    for attempt in range(ATTEMPTS):
        index = np.uint32(counter[0] + np.uint32(3 + attempt))
        u, v, s, t = draw_block(index, low, high, counter[1], key[0], key[1])
        area = height * width * scale_to(crop[:2], u)
        ratio = math.exp(scale_to(crop[4:], v))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            row.top, row.left = int(s * (height - h + 1)), int(t * (width - w + 1))
            row.height, row.width = h, w
            return
    h, w = central_crop_size(height, width, crop[2], crop[3])
    row.top, row.left, row.height, row.width = (height - h) // 2, (width - w) // 2, h, w


@jit
def set_central_square(row, height, width):  # type: ignore[no-untyped-def]
    side = min(height, width)
    row.top, row.left = (height - side) // 2, (width - side) // 2
    row.height, row.width = side, side


@jit
def sample_rows(params, words, heights, widths, key, counter, crop, probabilities, ranges):  # type: ignore[no-untyped-def]
    """Fill every row of ``params``; views/sample.py has the position of each uniform."""
    first, epoch = counter
    for n in range(len(params)):
        row = params[n]
        low, high = np.uint32(words[n]), np.uint32(words[n] >> _WORD)
        if len(crop) == 0:
            set_central_square(row, heights[n], widths[n])
        else:
            sample_crop(row, words[n], heights[n], widths[n], key, counter, crop)
        flip, jitter, grayscale, blur = draw_block(first, low, high, epoch, key[0], key[1])
        factors = draw_block(np.uint32(first + np.uint32(1)), low, high, epoch, key[0], key[1])
        order, sigma, solarize, _ = draw_block(
            np.uint32(first + np.uint32(2)), low, high, epoch, key[0], key[1]
        )
        row.flip, row.grayscale = flip < probabilities[0], grayscale < probabilities[2]
        row.solarize = solarize < probabilities[4]
        for k in range(4):
            row.order[k] = (
                ORDERS[int(order * np.float32(24)), k] if jitter < probabilities[1] else -1
            )
            row.factor[k] = scale_to(ranges[k], factors[k])
        row.sigma = scale_to(ranges[4], sigma) if blur < probabilities[3] else 0.0
