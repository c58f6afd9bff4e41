"""Defocus, glass, motion and zoom blur. Images are uint8 [B, H, W, 3]."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import correlate1d, gaussian_filter1d

from coview.evaluation.corruptions.draws import Draws, Floats
from coview.evaluation.corruptions.noise import Images, to_bytes
from coview.evaluation.corruptions.parameters import Strength


def defocus_blur(images: Images, strength: Strength, draws: Draws) -> Images:
    """The mean over a disk with a soft border; reflected without the border pixel."""
    kernel = torch.from_numpy(disk(*strength).astype(np.float32))
    radius = len(kernel) // 2
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    flat = planes.reshape(-1, 1, *planes.shape[2:])
    flat = torch.nn.functional.pad(flat, (radius,) * 4, mode="reflect")
    blurred = torch.nn.functional.conv2d(flat, kernel[None, None]).view(planes.shape)
    return to_bytes(blurred.permute(0, 2, 3, 1).double().numpy())


@lru_cache(maxsize=16)
def disk(radius: float, softness: float) -> Floats:
    """The kernel [2 h + 1, 2 h + 1]: pixels within ``radius``, blurred by a Gaussian of deviation
    ``softness`` over 3 x 3 pixels (5 x 5 for a radius above 8).

    The published kernel is drawn on a grid that ends at the larger of 8 and the radius, and its
    blur is reflected there, so that a radius of 8 or 10 brightens the image by 1 %.
    """
    edge, reach = max(8, int(radius)), 2 if radius > 8 else 1
    offsets = np.arange(-edge, edge + 1)
    kernel = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / softness) ** 2)
    for axis in (0, 1):
        kernel = correlate1d(kernel, taps / taps.sum(), axis=axis, mode="mirror")
    cut = edge - min(edge, int(radius) + reach)
    return kernel[cut : len(kernel) - cut, cut : len(kernel) - cut]


def glass_blur(images: Images, strength: Strength, draws: Draws) -> Images:
    """A blur, pixels replaced by near ones, and the blur again.

    The published script means to exchange two pixels. As it exchanges views of one array, a pixel
    takes the color of its neighbor and the neighbor keeps its own; so does this function.
    """
    deviation, distance, repetitions = strength[0], int(strength[1]), int(strength[2])
    smooth = to_bytes(gaussian_blur(images / 255, deviation))
    size = images.shape[1]
    source = displaced(draws, size, distance, repetitions)
    flat = smooth.reshape(len(images), size * size, 3)
    mixed = np.take_along_axis(flat, source.reshape(len(images), -1, 1), axis=1)
    return to_bytes(gaussian_blur(mixed.reshape(images.shape) / 255, deviation))


def displaced(draws: Draws, size: int, distance: int, repetitions: int) -> npt.NDArray[np.int64]:
    """From which pixel each takes its color: int64 [B, size, size], row * size + column.

    Pixels are visited from the bottom right; a visited one takes what the pixel at a distance of
    -d .. d - 1 in either direction shows at that moment.
    """
    batch = np.arange(len(draws.ids))
    places = np.arange(size - distance, distance, -1)
    source = np.tile(np.arange(size * size).reshape(size, size), (len(batch), 1, 1))
    for repetition in range(repetitions):
        uniform = draws.uniform(2, len(places), len(places), part=repetition)
        shift = np.floor(uniform * (2 * distance)).astype(np.int64) - distance
        for i, row in enumerate(places):
            for j, column in enumerate(places):
                taken = source[batch, row + shift[:, 0, i, j], column + shift[:, 1, i, j]]
                source[:, row, column] = taken
    return source


def gaussian_blur(values: Floats, deviation: float) -> Floats:
    """A Gaussian over height and width of [B, H, W, C], borders repeated, cut off at 4 sigma."""
    down = gaussian_matrix(values.shape[1], deviation, "nearest", 4.0)
    across = gaussian_matrix(values.shape[2], deviation, "nearest", 4.0)
    rows = np.tensordot(values, across, axes=(2, 1))  # [B, H, C, W]
    blurred: Floats = np.tensordot(rows, down, axes=(1, 1)).transpose(0, 3, 2, 1)
    return blurred


@lru_cache(maxsize=32)
def gaussian_matrix(size: int, deviation: float, mode: str, truncate: float) -> Floats:
    """One axis of scipy's Gaussian filter as a matrix [size, size]."""
    matrix: Floats = gaussian_filter1d(
        np.eye(size), deviation, axis=0, mode=mode, truncate=truncate
    )
    return matrix


def motion_blur(images: Images, strength: Strength, draws: Draws) -> Images:
    """Half a Gaussian along a line at an angle of -45 to 45 degrees."""
    angles = 90 * draws.uniform(1)[:, 0] - 45
    blurred = [
        move(image.astype(np.float64), strength[0], strength[1], float(angle))
        for image, angle in zip(images, angles, strict=True)
    ]
    return to_bytes(np.stack(blurred) / 255)


def move(image: Floats, radius: float, deviation: float, angle: float) -> Floats:
    """ImageMagick's motion blur of one image [H, W, ...]; borders are repeated.

    Kernel: exp(-i^2 / (2 sigma^2)) for i = 0 .. 2 radius, normalized; tap i reads the pixel at
    (ceil(i sin a - 1/2), ceil(i cos a - 1/2)).
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    kernel = np.exp(-(steps**2) / (2 * deviation**2))
    kernel /= kernel.sum()
    down = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    across = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    reach = len(steps)
    padding = [(reach, reach), (reach, reach)] + [(0, 0)] * (image.ndim - 2)
    padded, (height, width) = np.pad(image, padding, mode="edge"), image.shape[:2]
    total = np.zeros_like(image)
    for weight, dy, dx in zip(kernel, down + reach, across + reach, strict=True):
        total += weight * padded[dy : dy + height, dx : dx + width]
    return total


def zoom_blur(images: Images, strength: Strength, draws: Draws) -> Images:
    """The mean of the image and of its zooms towards the center."""
    factors = np.arange(*strength)  # first, end, step: with the end where rounding says so
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    total = planes.clone()
    for factor in factors:
        zoom = torch.from_numpy(zoom_matrix(images.shape[1], float(factor)).astype(np.float32))
        total += zoom @ planes @ zoom.T
    return to_bytes((total / (len(factors) + 1)).permute(0, 2, 3, 1).double().numpy())


@lru_cache(maxsize=256)
def zoom_matrix(size: int, factor: float) -> Floats:
    """Linear interpolation of the central 1 / ``factor`` of an axis to all of it: [size, size].

    The positions are those of scipy.ndimage.zoom, which maps the end pixels on each other.
    """
    part = math.ceil(size / factor)
    longer = round(part * factor)
    first, cut = (size - part) // 2, (longer - size) // 2
    position = (np.arange(size) + cut) * ((part - 1) / max(longer - 1, 1))
    low = np.minimum(position.astype(int), part - 1)
    high, weight = np.minimum(low + 1, part - 1), position - low
    matrix = np.zeros((size, size))
    rows = np.arange(size)
    np.add.at(matrix, (rows, first + low), 1 - weight)
    np.add.at(matrix, (rows, first + high), weight)
    return matrix
