"""Grey as torch arithmetic: the luma that colour operations and Sobel share."""

from __future__ import annotations

import torch

GREY = (0.2989, 0.587, 0.114)


def grey_image(images: torch.Tensor) -> torch.Tensor:
    """Luma of [B, 3, H, W] as [B, 1, H, W], weights of ITU-R BT.601."""
    red, green, blue = images.unbind(dim=1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]
