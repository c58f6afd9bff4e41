"""Gaussian blur of one plane, separable, with reflected borders."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from coview.views.fused.compiler import ONE, U0, U1, ZERO, F, U, inner
from coview.views.fused.lanes import FLOATS, weigh_offsets

L = U(FLOATS)
NEGLIGIBLE = 1e-5
"""Weights below this share of the center are left out: half the work, no measurable error."""


@inner
def blur_weights(sigma, radius, weights):
    """Half a Gaussian without its negligible tail; returns the remaining radius."""
    reach = min(radius, int(sigma * np.sqrt(-2 * np.log(NEGLIGIBLE))))
    weights[:] = ZERO
    whole = 1.0
    for k in range(1, reach + 1):
        weights[k] = F(np.exp(-0.5 * (k / sigma) ** 2))
        whole += 2 * weights[k]
    weights[0] = ONE
    for k in range(reach + 1):
        weights[k] /= F(whole)
    return reach


@inner
def smooth(source, middle, step, reach, weights, target, at, n):
    """target[at + i] = sum over |k| <= reach of weights[|k|] * source[middle + i + k * step]."""
    if n < L:
        for i in range(n):
            total = weights[0] * source[middle + i]
            for k in range(U1, reach + U1):
                far = k * step
                total += weights[k] * (source[middle + i + far] + source[middle + i - far])
            target[at + i] = total
        return
    for i in range(U0, n - L, L):
        weigh_offsets(source, middle + i, step, reach, weights, target, at + i)
    i = n - L
    weigh_offsets(source, middle + i, step, reach, weights, target, at + i)


@inner
def blur_plane(plane, size, reach, weights, line, tall):
    """Separable blur of one plane in place; ``tall`` holds the rows with reflected borders."""
    n, r = U(size), U(reach)
    for y in range(n):
        for x in range(n):
            line[r + x] = plane[y * n + x]
        for k in range(U1, r + U1):
            line[r - k] = plane[y * n + k]
            line[r + n - U1 + k] = plane[y * n + n - U1 - k]
        smooth(line, r, U1, reach, weights, tall, (r + y) * n, n)
    for k in range(U1, r + U1):
        for x in range(n):
            tall[(r - k) * n + x] = tall[(r + k) * n + x]
            tall[(r + n - U1 + k) * n + x] = tall[(r + n - U1 - k) * n + x]
    for y in range(n):
        smooth(tall, (r + y) * n, n, reach, weights, plane, y * n, n)
