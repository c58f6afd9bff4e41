"""Images with the smoothness and the noise of photographs, of any sizes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional

from coview.core.images import ImageStore, store_from_arrays

SMALL = [(32, 32)] * 12
MIXED = [(1, 100), (100, 1), (1, 1), (3, 5), (64, 40), (300, 3), (33, 31), (2, 2)]
LARGE = [(256, 341), (534, 400), (100, 80), (1, 300), (500, 7), (224, 224)]


def photographs(shapes: list[tuple[int, int]], seed: int = 0) -> ImageStore:
    """A store of one image per (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for height, width in shapes:
        coarse = torch.rand(1, 3, max(2, height // 8), max(2, width // 8), generator=generator)
        smooth = functional.interpolate(coarse, size=(height, width), mode="bilinear")
        noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
        images.append((noisy.clamp(0, 1)[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy())
    return store_from_arrays(images, source=f"photographs-{seed}")


def all_rows(store: ImageStore) -> np.ndarray:
    return np.arange(len(store))
