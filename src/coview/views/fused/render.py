"""The kernel that renders rows of FUSED_ROW, from packed pixels to finished planes."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from pathlib import Path

import numpy as np

from coview.core.files import digest
from coview.views.fused.color import (
    contrast,
    contrast_position,
    gray_sum,
    grayscale,
    jitter_without_contrast,
    solarize_and_normalize,
)
from coview.views.fused.compiler import ONE, U0, ZERO, F, U, inner, outer
from coview.views.fused.gaussian import blur_plane, blur_weights
from coview.views.fused.resample import across, axis_kernel_size, axis_weights, down
from coview.views.parameters import CONTRAST

BLOCK = 1024
"""Pixels of a block; its three planes, twelve kilobytes, stay in the first-level cache."""


@inner
def finish_block(planes, lo, hi, row, blurred, constants):
    """Grayscale and, without a blur to follow, solarize and normalize."""
    if row.grayscale:
        grayscale(planes, lo, hi)
    if not blurred:
        solarize_and_normalize(planes, lo, hi, row.solarize, *constants)


@inner
def resample_sweep(source, corner, pitch, row, axes, scratch, planes, size, pivot, constants):
    """Resize block by block, with the color operations before contrast; the sum of gray."""
    first_y, weights_y, kernel_size_y, first_x, weights_x, kernel_size_x = axes
    offsets, line = scratch
    last, bytes_wide = U(row.height - 1), U(4 * row.width)
    rows = max(1, BLOCK // size)
    total = 0.0
    for y0 in range(0, size, rows):
        y1 = min(y0 + rows, size)
        for y in range(U(y0), U(y1)):
            down(
                source, corner, pitch, last, first_y, weights_y, kernel_size_y, y, offsets, line,
                bytes_wide,
            )  # fmt: skip
            across(line, first_x, weights_x, kernel_size_x, U(size), planes, y * U(size))
        lo, hi = U(y0 * size), U(y1 * size)
        jitter_without_contrast(planes, lo, hi, row, 0, pivot)
        if pivot < 4:
            total += gray_sum(planes, lo, hi)
        else:
            finish_block(planes, lo, hi, row, row.sigma > ZERO, constants)
    return total


@inner
def contrast_sweep(row, planes, size, pivot, mean, constants):
    """Contrast and every color operation after it, block by block."""
    rows = max(1, BLOCK // size)
    for y0 in range(0, size, rows):
        lo, hi = U(y0 * size), U(min(y0 + rows, size) * size)
        contrast(planes, lo, hi, row.factor[CONTRAST], mean)
        jitter_without_contrast(planes, lo, hi, row, pivot + 1, 4)
        finish_block(planes, lo, hi, row, row.sigma > ZERO, constants)


@inner
def blur_sweep(row, planes, size, radius, gaussian, padded, tall, constants):
    """Blur each plane, then solarize and normalize."""
    reach = blur_weights(row.sigma, radius, gaussian)
    if reach > 0:
        for c in range(3):
            blur_plane(planes[c], size, reach, gaussian, padded, tall)
    solarize_and_normalize(planes, U0, U(size * size), row.solarize, *constants)


def _compile_render(version):
    @outer
    def render(
        pixels, starts, pitches, params, out, size, cubic, radius, solarize_threshold, scale, shift
    ):
        """Render every row of ``params`` into ``out`` [n, 3, size * size].

        ``pixels`` are bytes; ``starts`` and ``pitches`` are the offset and the width of each row's
        image in pixels; ``scale`` and ``shift`` are empty without normalization.
        """
        used = version  # noqa: F841  a free variable is part of numba's cache key
        tallest, widest = 1, 1
        for n in range(len(params)):
            tallest, widest = max(tallest, params[n].height), max(widest, params[n].width)
        first_y, first_x = np.empty(size, np.uint64), np.empty(size, np.uint64)
        weights_y = np.empty((axis_kernel_size(tallest, size, cubic), size), np.float32)
        weights_x = np.empty((axis_kernel_size(widest, size, cubic), size), np.float32)
        offsets = np.empty(len(weights_y), np.uint64)
        line = np.zeros(4 * (widest + len(weights_x)), np.float32)
        gaussian = np.zeros(radius + 1, np.float32)
        padded = np.empty(size + 2 * radius, np.float32)
        tall = np.empty((size + 2 * radius) * size if radius > 0 else 0, np.float32)
        constants = (solarize_threshold, scale, shift)

        for n in range(len(params)):
            row, planes = params[n], out[n]
            kernel_size_y = axis_weights(
                row.height, size, cubic, False, F(1 / 255), first_y, weights_y
            )
            kernel_size_x = axis_weights(
                row.width, size, cubic, row.flip != 0, ONE, first_x, weights_x
            )
            axes = (first_y, weights_y, kernel_size_y, first_x, weights_x, kernel_size_x)
            line[4 * row.width :] = ZERO
            corner = U(4 * (starts[n] + row.top * pitches[n] + row.left))
            pivot = contrast_position(row)
            total = resample_sweep(
                pixels, corner, U(4 * pitches[n]), row, axes, (offsets, line), planes, size, pivot,
                constants,
            )  # fmt: skip
            if pivot < 4:
                contrast_sweep(row, planes, size, pivot, F(total / (size * size)), constants)
            if row.sigma > ZERO:
                blur_sweep(row, planes, size, radius, gaussian, padded, tall, constants)

    return render


render = _compile_render(
    digest(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py"))))
)
