"""Snow, frost, fog and brightness. Images are uint8 [B, H, W, 3]."""

from __future__ import annotations

import numpy as np

from coview.evaluation.corruptions.blur import move, zoom_matrix
from coview.evaluation.corruptions.draws import Draws, Floats
from coview.evaluation.corruptions.noise import Images, to_bytes
from coview.evaluation.corruptions.parameters import Strength

LUMA = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in gray (ITU-R BT.601)."""

FROST_DECAY = 1.7
"""How fast the frost's fractal loses amplitude from one octave to the next."""
FROST_MEAN, FROST_DEVIATION = (115.0, 210.0), (20.0, 45.0)
"""Range of the frost's mean and of its deviation over an image, in bytes: those of the published
textures lie within."""
FROST_TINT = np.array([0.92, 1.01, 1.07])
"""The frost is bluish."""


def snow(images: Images, strength: Strength, draws: Draws) -> Images:
    """Flakes that fall, over an image that has lost color."""
    mean, deviation, zoom, threshold, radius, blur, share = strength
    size = images.shape[1]
    flakes = mean + deviation * draws.normal(size, size)
    matrix = zoom_matrix(size, zoom)
    flakes = matrix @ flakes @ matrix.T
    flakes[flakes < threshold] = 0
    angles = -135 + 90 * draws.uniform(1, part=1)[:, 0]
    layers = np.stack(
        [
            move(layer.astype(np.float64), radius, blur, float(angle))
            for layer, angle in zip(to_bytes(flakes), angles, strict=True)
        ]
    )
    layers = (np.floor(layers) / 255)[..., None]
    values = images / 255
    gray = (values @ LUMA)[..., None]
    values = share * values + (1 - share) * np.maximum(values, gray * 1.5 + 0.5)
    return to_bytes(values + layers + np.rot90(layers, 2, axes=(1, 2)))


def frost(images: Images, strength: Strength, draws: Draws) -> Images:
    """The image under a texture of frost.

    The published corruption takes its texture from five photographs. This one draws it: ridges of
    a fractal, which look like needles of ice, with mean and deviation of the photographs' kind.
    Its strengths are the published ones, its errors are not comparable with published ones.
    """
    weight, frost_weight = strength
    texture = frost_texture(draws, images.shape[1])
    return to_bytes((weight * images + frost_weight * texture) / 255)


def frost_texture(draws: Draws, size: int) -> Floats:
    """Bluish ridges, values 0 to 255: [B, size, size, 3]."""
    heights = fractal(draws, size, FROST_DECAY)
    middle = np.median(heights, axis=(1, 2), keepdims=True)
    ridges = -np.abs(heights - middle)
    ridges -= ridges.mean(axis=(1, 2), keepdims=True)
    ridges /= np.maximum(ridges.std(axis=(1, 2), keepdims=True), 1e-12)
    mean, deviation = draws.uniform(2, part=1).T[..., None, None]
    mean = FROST_MEAN[0] + (FROST_MEAN[1] - FROST_MEAN[0]) * mean
    deviation = FROST_DEVIATION[0] + (FROST_DEVIATION[1] - FROST_DEVIATION[0]) * deviation
    tones: Floats = (mean + deviation * ridges)[..., None] * FROST_TINT
    return np.clip(tones, 0, 255)


def fog(images: Images, strength: Strength, draws: Draws) -> Images:
    """(x + c fractal) m / (m + c), where m is the image's highest value."""
    amount, decay = strength
    values = images / 255
    highest = values.max(axis=(1, 2, 3), keepdims=True)
    values = values + amount * fractal(draws, images.shape[1], decay)[..., None]
    return to_bytes(values * highest / (highest + amount))


def fractal(draws: Draws, size: int, decay: float) -> Floats:
    """Heights of the diamond-square algorithm on a torus, from 0 to 1: [B, size, size].

    The map's side is the next power of two; 0 and 1 are the lowest and the highest of all of it.
    """
    side = 1 << (size - 1).bit_length()
    numbers = 2 * draws.uniform(side * side) - 1
    heights = np.zeros((len(draws.ids), side, side))
    used, step, amplitude = 1, side, 100.0

    def middle(total: Floats) -> Floats:
        """The mean of four neighbors, moved by up to the squared amplitude."""
        nonlocal used
        count = total.shape[1] * total.shape[2]
        shift = numbers[:, used : used + count].reshape(total.shape)
        used += count
        return total / 4 + amplitude**2 * shift

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        total = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = middle(total + np.roll(total, -1, axis=2))
        centers = heights[:, half::step, half::step]
        total = centers + np.roll(centers, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        heights[:, ::step, half::step] = middle(total)
        total = centers + np.roll(centers, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, ::step] = middle(total)
        step, amplitude = half, amplitude / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, :size, :size]


def brightness(images: Images, strength: Strength, draws: Draws) -> Images:
    """The value of HSV raised by c and limited to 1; hue and saturation stay."""
    (amount,) = strength
    values = images / 255
    highest = values.max(axis=3, keepdims=True)
    raised = np.minimum(highest + amount, 1)
    black = highest == 0
    scaled = values * (raised / np.where(black, 1, highest))
    return to_bytes(np.where(black, raised, scaled))
