"""Gray as torch arithmetic: the luma that color operations and Sobel share."""

from __future__ import annotations

import torch

GRAY = (0.2989, 0.587, 0.114)


def gray_image(images: torch.Tensor) -> torch.Tensor:
    """Luma of [B, 3, H, W] as [B, 1, H, W], weights of ITU-R BT.601."""
    red, green, blue = images.unbind(dim=1)
    return (GRAY[0] * red + GRAY[1] * green + GRAY[2] * blue)[:, None]
