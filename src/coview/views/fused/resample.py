"""Crop, antialiased resize and flip: two one-dimensional passes, vertical first.

Weights are those of torch.nn.functional.interpolate(antialias=True): a triangle or Keys' cubic
with a = -0.5, stretched by the scale where the image shrinks, normalized over the crop.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from coview.views.fused.compiler import (
    FOUR,
    HALF,
    ONE,
    TWO,
    U0,
    U1,
    U2,
    U4,
    ZERO,
    F,
    U,
    inner,
)
from coview.views.fused.lanes import BYTES, PIXELS, weigh_pixels, weigh_rows

B, P = U(BYTES), U(PIXELS)


@inner
def triangle(x):
    return max(ZERO, ONE - abs(x))


@inner
def cubic_of_keys(x):
    x = abs(x)
    near = (F(1.5) * x - F(2.5)) * x * x + ONE
    far = ((F(2.5) - HALF * x) * x - FOUR) * x + TWO
    return near if x < ONE else (far if x < TWO else ZERO)


@inner
def axis_taps(size, out, cubic):
    """How many source positions an output position can touch."""
    support = (2.0 if cubic else 1.0) * max(size / out, 1.0)
    return int(np.ceil(2 * support))


@inner
def axis_weights(size, out, cubic, flip, total, first, weights):
    """First source position and tap weights (summing to ``total``) of each output position.

    Returns the number of taps; taps beyond ``size`` weigh nothing.
    """
    taps = axis_taps(size, out, cubic)
    scale = F(size) / F(out)
    stretch = ONE / max(scale, ONE)
    support = (TWO if cubic else ONE) / stretch
    last = max(size - taps, 0)
    for i in range(out):
        center = scale * (F(out - 1 - i if flip else i) + HALF)
        start = min(max(int(center - support + HALF), 0), last)
        first[i] = U(start)
        whole = ZERO
        for t in range(taps):
            x = (F(start + t) - center + HALF) * stretch
            weight = cubic_of_keys(x) if cubic else triangle(x)
            weight = weight if start + t < size else ZERO
            weights[t, i] = weight
            whole += weight
        whole = total / whole
        for t in range(taps):
            weights[t, i] *= whole
    return U(taps)


@inner
def down(pixels, corner, pitch, last, first, weights, taps, y, offsets, line, n):
    """Vertical pass: ``n`` packed bytes of output row ``y`` as floats into ``line``."""
    for t in range(taps):
        offsets[t] = corner + min(first[y] + t, last) * pitch
    if n < B:
        for j in range(n):
            line[j] = ZERO
            for t in range(taps):
                line[j] += weights[t, y] * F(pixels[offsets[t] + j])
        return
    for j in range(U0, n - B, B):
        weigh_rows(pixels, offsets, weights, taps, y, j, line)
    weigh_rows(pixels, offsets, weights, taps, y, n - B, line)


@inner
def across(line, first, weights, taps, size, planes, at):
    """Horizontal pass: one output row of ``size`` pixels, in [0, 1], into the planes."""
    if size < P:
        for x in range(size):
            for c in range(U0, U2 + U1):
                total = ZERO
                for t in range(taps):
                    total += weights[t, x] * line[U4 * (first[x] + t) + c]
                planes[c, at + x] = min(max(total, ZERO), ONE)
        return
    for x in range(U0, size - P, P):
        weigh_pixels(line, first, weights, taps, x, planes, at + x)
    x = size - P
    weigh_pixels(line, first, weights, taps, x, planes, at + x)
