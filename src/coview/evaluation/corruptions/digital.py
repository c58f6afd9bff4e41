"""Contrast, elastic transform, pixelate and JPEG. Images are uint8 [B, H, W, 3]."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from coview.evaluation.corruptions.blur import gaussian_matrix
from coview.evaluation.corruptions.draws import Draws, Floats
from coview.evaluation.corruptions.noise import Images, to_bytes
from coview.evaluation.corruptions.parameters import Strength


def contrast(images: Images, strength: Strength, draws: Draws) -> Images:
    """Every channel drawn towards its mean."""
    (factor,) = strength
    values = images / 255
    means = values.mean(axis=(1, 2), keepdims=True)
    return to_bytes((values - means) * factor + means)


def elastic(images: Images, strength: Strength, draws: Draws) -> Images:
    """A random affine map, then a random smooth displacement of every pixel.

    ``strength`` is in pixels: size and smoothness of the displacement, size of the affine map.
    """
    amount, smoothness, affine = strength
    size = images.shape[1]
    y, x = np.mgrid[:size, :size].astype(np.float64)
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    inverse = inverse_affine(size, affine * (2 * draws.uniform(3, 2) - 1))
    place = np.stack([x, y, np.ones_like(x)])
    across, down = np.einsum("bij,jhw->ibhw", inverse, place)
    values = look_up(values, down, across, mirror_border_pixel=False)
    if amount > 0:
        smooth = gaussian_matrix(size, smoothness, "reflect", 3.0)
        shifts = 2 * draws.uniform(2, size, size, part=1) - 1
        shifts = amount * (smooth @ shifts @ smooth.T)
        values = look_up(values, y + shifts[:, 1], x + shifts[:, 0], mirror_border_pixel=True)
    return to_bytes(values.permute(0, 2, 3, 1).double().numpy())


def inverse_affine(size: int, shifts: Floats) -> Floats:
    """The maps from target to source, [B, 2, 3] on (x, y, 1), of those that move three corners of
    the central square by ``shifts`` [B, 3, 2]."""
    center, square = size // 2, size // 3
    corners = center + square * np.array([[1, 1], [1, -1], [-1, -1]])
    target = np.concatenate([corners + shifts, np.ones((len(shifts), 3, 1))], axis=2)
    source = np.broadcast_to(corners.astype(np.float64), shifts.shape)
    inverse: Floats = np.linalg.solve(target, source).transpose(0, 2, 1)
    return inverse


def look_up(
    images: torch.Tensor, y: Floats, x: Floats, *, mirror_border_pixel: bool
) -> torch.Tensor:
    """Bilinear interpolation of [B, C, S, S] at the pixels (y, x), each [B, S, S].

    Outside, the image is mirrored: with its border pixel twice, or once.
    """
    size = images.shape[-1]
    grid = torch.from_numpy(np.stack([x, y], axis=-1))
    grid = (2 * grid + 1) / size - 1 if mirror_border_pixel else 2 * grid / (size - 1) - 1
    return torch.nn.functional.grid_sample(
        images, grid.float(), mode="bilinear", padding_mode="reflection",
        align_corners=not mirror_border_pixel,
    )  # fmt: skip


def pixelate(images: Images, strength: Strength, draws: Draws) -> Images:
    """Shrunk by the mean over boxes, and enlarged again."""
    (share,) = strength
    height, width = images.shape[1:3]
    small = int(width * share), int(height * share)
    box = Image.Resampling.BOX
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize(small, box).resize((width, height), box))
            for image in images
        ]
    )


def jpeg(images: Images, strength: Strength, draws: Draws) -> Images:
    """JPEG of a low quality."""
    return recompress(images, int(strength[0]))


def recompress(images: Images, quality: int) -> Images:
    """Images written as JPEG by Pillow and read again."""
    decoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(buffer).convert("RGB")))
    return np.stack(decoded)
