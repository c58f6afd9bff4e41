"""The maps of a residual encoder, group by group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coview.core.errors import InvalidValue
from coview.core.eval_mode import eval_mode
from coview.encoders import Encoder

GROUPS = ("layer1", "layer2", "layer3", "layer4")
TRIAL_SIZE = 64


def residual_network(encoder: Encoder) -> Any:
    """The module with conv1, bn1, maxpool, layer1 .. layer4. Raises InvalidValue without them."""
    network = encoder.network
    if all(isinstance(getattr(network, name, None), nn.Module)
           for name in ("conv1", "bn1", "maxpool", *GROUPS)):  # fmt: skip
        return network
    raise InvalidValue(
        f"{encoder.spec.label()} is no residual network, of whose four groups of blocks boxes and "
        "label maps are learned; take a ResNet of ours, of torchvision or of timm."
    )


def forward_groups(network: Any, images: Tensor, groups: int = 4) -> list[Tensor]:
    """The maps after the first ``groups`` groups: images [B, 3, H, W] -> [B, C, H/s, W/s] each."""
    x = network.bn1(network.conv1(images))
    activation = getattr(network, "relu", None) or getattr(network, "act1", None) or F.relu
    x = network.maxpool(activation(x))
    maps = []
    for name in GROUPS[:groups]:
        x = getattr(network, name)(x)
        maps.append(x)
    return maps


def map_shapes(network: Any) -> tuple[list[int], list[int]]:
    """(channels, strides) of the maps of the four groups."""
    with torch.no_grad(), eval_mode(network):
        maps = forward_groups(network, torch.zeros(1, 3, TRIAL_SIZE, TRIAL_SIZE))
    return [m.shape[1] for m in maps], [TRIAL_SIZE // m.shape[-1] for m in maps]


def dilate_last_group(network: Any) -> None:
    """Let the fourth group keep the resolution of the third, in place: stride 1, dilation 2.

    The weights stay those of the encoder.
    """
    for module in network.layer4.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                module.dilation = (2, 2)
                if module.padding != (0, 0):  # else it pads its images itself, as SameConv2d
                    module.padding = (2, 2)
            module.stride = (1, 1)
    pools = [
        m for m in network.layer4.modules() if getattr(m, "stride", None) not in (None, (1, 1))
    ]
    if pools:
        raise InvalidValue(
            "The fourth group of this encoder takes its stride in a pooling layer, which cannot be "
            "dilated; learn label maps with a ResNet without selective kernels."
        )
