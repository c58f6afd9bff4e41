"""Small labeled images and a small network for the tests of evaluation."""

import numpy as np
import torch
from torch import nn

from coview.core.images import store_from_arrays


def colored(count, classes=3, seed=0, source="toy", labels=True, side=12):
    """Noisy images whose class is their mean color."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, count)
    centers = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60]])
    noise = generator.normal(0, 60, (count, side, side, 3))
    images = np.clip(centers[truth][:, None, None] + noise, 0, 255).astype(np.uint8)
    return store_from_arrays(
        images, labels=truth.astype(np.int64) if labels else None, source=source
    )


class Small(nn.Module):
    """Three parts with flags of their own, BatchNorm among them."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.features = 6

    def forward(self, images):
        return self.norm(self.convolution(images)).relu().mean((2, 3))


def small_head(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))


def blobs(count, classes, width, seed=0, spread=1.0, dtype=torch.float32):
    """Features around random class centers: rows, labels, ids."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, width, generator=torch.Generator().manual_seed(99), dtype=dtype)
    labels = torch.randint(classes, (count,), generator=generator)
    rows = centers[labels] + spread * torch.randn(count, width, generator=generator, dtype=dtype)
    ids = torch.arange(count) * 7919 + seed
    return rows, labels, ids
