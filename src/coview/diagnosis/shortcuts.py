"""Instance accuracy of simple cues in the pixels: a network may use them as a shortcut.

Each function takes two tensors of views, float [N, 3, H, W], row i of both from image i, and
returns a share in [0, 1].
"""

from __future__ import annotations

import torch
from torch.nn.functional import adaptive_avg_pool2d

from coview.embeddings.geometry import instance_accuracy

COLOR_BINS = 4  # per channel; 64 joint colors, few enough that similar pixels share a bin
HISTOGRAM_SIDE = 32
THUMBNAIL_SIDE = 8


def identical_share(first: torch.Tensor, second: torch.Tensor) -> float:
    """Share of images whose two views have equal pixels; 0 for views of different sizes."""
    if first.shape != second.shape:
        return 0.0
    return float((first == second).flatten(1).all(dim=1).double().mean())


def color_instance_accuracy(first: torch.Tensor, second: torch.Tensor) -> float:
    """Instance accuracy of joint color histograms: the shortcut of SimCLR, section 3.1."""
    low = torch.minimum(first.amin(), second.amin())
    span = (torch.maximum(first.amax(), second.amax()) - low).clamp_min(1e-12)
    return instance_accuracy(*(_colors(view, low, span) for view in (first, second)))


def thumbnail_instance_accuracy(first: torch.Tensor, second: torch.Tensor) -> float:
    """Instance accuracy of 8 x 8 thumbnails, each minus its mean, without any learning."""
    return instance_accuracy(*(_thumbnails(view) for view in (first, second)))


def _colors(view: torch.Tensor, low: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """Square-rooted histograms [N, 64], whose cosine is the Bhattacharyya coefficient."""
    large = max(view.shape[-2:]) > HISTOGRAM_SIDE
    small = adaptive_avg_pool2d(view.float(), HISTOGRAM_SIDE) if large else view.float()
    levels = ((small - low) * (COLOR_BINS / span)).long().clamp(0, COLOR_BINS - 1)
    weights = torch.tensor([COLOR_BINS**2, COLOR_BINS, 1], device=view.device)
    bins = (levels * weights[:, None, None]).sum(dim=1).flatten(1)
    count = COLOR_BINS**3
    rows = torch.arange(len(view), device=view.device)[:, None] * count
    counts = torch.bincount((bins + rows).flatten(), minlength=len(view) * count)
    return counts.view(len(view), count).float().sqrt()


def _thumbnails(view: torch.Tensor) -> torch.Tensor:
    small = adaptive_avg_pool2d(view.float(), THUMBNAIL_SIDE).flatten(1)
    return small - small.mean(dim=1, keepdim=True)
