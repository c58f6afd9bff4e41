"""Crop, antialiased resize and flip: two one-dimensional passes, vertical first.

Weights are those of torch.nn.functional.interpolate(antialias=True): a triangle or Keys' cubic
with a = -0.5, stretched by the scale where the image shrinks, normalized over the crop.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from coview.views.fused.compiler import FOUR, HALF, ONE, TWO, U0, U1, U2, U4, ZERO, F, U, inner
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
def axis_kernel_size(size, out, cubic):
    """The largest number of source positions with weight in one output position."""
    support = (2.0 if cubic else 1.0) * max(size / out, 1.0)
    return int(np.ceil(2 * support))


@inner
def axis_weights(size, out, cubic, flip, total, first, weights):
    """First source position and weights (summing to ``total``) of each output position.

    Returns the kernel size; positions beyond ``size`` have weight 0.
    """
    kernel_size = axis_kernel_size(size, out, cubic)
    scale = F(size) / F(out)
    stretch = ONE / max(scale, ONE)
    support = (TWO if cubic else ONE) / stretch
    last = max(size - kernel_size, 0)
    for i in range(out):
        center = scale * (F(out - 1 - i if flip else i) + HALF)
        start = min(max(int(center - support + HALF), 0), last)
        first[i] = U(start)
        whole = ZERO
        for t in range(kernel_size):
            x = (F(start + t) - center + HALF) * stretch
            weight = cubic_of_keys(x) if cubic else triangle(x)
            weight = weight if start + t < size else ZERO
            weights[t, i] = weight
            whole += weight
        whole = total / whole
        for t in range(kernel_size):
            weights[t, i] *= whole
    return U(kernel_size)


@inner
def down(pixels, corner, pitch, last, first, weights, kernel_size, y, offsets, line, n):
    """Vertical pass: ``n`` packed bytes of output row ``y`` as floats into ``line``."""
    for t in range(kernel_size):
        offsets[t] = corner + min(first[y] + t, last) * pitch
    if n < B:
        for j in range(n):
            line[j] = ZERO
            for t in range(kernel_size):
                line[j] += weights[t, y] * F(pixels[offsets[t] + j])
        return
    for j in range(U0, n - B, B):
        weigh_rows(pixels, offsets, weights, kernel_size, y, j, line)
    weigh_rows(pixels, offsets, weights, kernel_size, y, n - B, line)


@inner
def across(line, first, weights, kernel_size, size, planes, at):
    """Horizontal pass: one output row of ``size`` pixels, in [0, 1], into the planes."""
    if size < P:
        for x in range(size):
            for c in range(U0, U2 + U1):
                total = ZERO
                for t in range(kernel_size):
                    total += weights[t, x] * line[U4 * (first[x] + t) + c]
                planes[c, at + x] = min(max(total, ZERO), ONE)
        return
    for x in range(U0, size - P, P):
        weigh_pixels(line, first, weights, kernel_size, x, planes, at + x)
    x = size - P
    weigh_pixels(line, first, weights, kernel_size, x, planes, at + x)
