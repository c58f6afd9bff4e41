"""The class of every pixel, from the last map of a dilated encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coview.data.annotations import UNKNOWN
from coview.dense.maps import dilate_last_group, forward_groups, map_shapes, residual_network
from coview.dense.method import Segmenter
from coview.encoders import Encoder


class Segmentation(nn.Module):
    """All of a segmenter but the encoder, which it dilates in place."""

    def __init__(self, method: Segmenter, encoder: Encoder) -> None:
        super().__init__()
        network = residual_network(encoder)
        object.__setattr__(self, "encoder", encoder)
        dilate_last_group(network)
        width, rate = map_shapes(network)[0][3], method.dilation
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.Conv2d(width, method.channels, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(method.channels), nn.ReLU(inplace=True),
            ]  # fmt: skip
            width = method.channels
        self.head = nn.Sequential(*layers, nn.Conv2d(width, method.classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> float32 logits [B, classes, H, W]."""
        maps = forward_groups(residual_network(self.encoder), images)[3]  # type: ignore[arg-type]
        logits: Tensor = self.head(maps).float()
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def pixel_loss(logits: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """(the sum of the cross-entropies of the pixels with a class, their number)."""
    loss = F.cross_entropy(logits, maps.long(), ignore_index=UNKNOWN, reduction="sum")
    return loss, (maps != UNKNOWN).sum().to(torch.float32)
