"""The residual networks of SimCLR and SimCLRv2: images -> features h.

This file needs torch alone: an export contains a copy of it, so that the weights load without
Coview. SPDX-License-Identifier: Apache-2.0

Sources: He et al., "Deep residual learning" (2016), with the stride on the 3x3 convolution;
He et al., "Bag of tricks" (2019), the ResNet-D stem and shortcut; Li et al., "Selective kernel
networks" (2019), in the form of SimCLRv2 (Chen et al., 2020, section 2 and its released code);
Wu and He, "Group normalization" (2018); Qiao et al., "Weight standardization" (2019), section 2.2.
Parameter names are torchvision's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = nn.BatchNorm2d | nn.GroupNorm

BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


class Encoder(nn.Module):
    """Images [B, 3, H, W], floating -> h [B, features]."""

    features: int
    spec: Any  # the coview.encoders.EncoderSpec that built it; this file knows torch only

    @property
    def network(self) -> nn.Module:
        """The module whose state dict has the keys of the network's own library."""
        return self


class ResNet(Encoder):
    """A residual network without classifier; h is the mean over positions of the last group.

    depth: 10, 18, 34, 50, 101, 152 or 200. width multiplies every channel count. stem: "large" is
    7x7/2 and a max-pool (ImageNet), "small" is 3x3/1 without pooling (32-pixel images), "medium"
    is 3x3/2 without pooling (64-pixel images, CPUs): a quarter of the small stem's cost. "padded"
    is the small stem with two pixels of padding, as solo-learn has it for CIFAR.
    selective_kernels: SimCLRv2's units with the ResNet-D stem and shortcut (depth 50 and more).
    projection_in_first_group: a 1x1 shortcut in group 1 of basic blocks too (official SimCLR).
    same_padding: the max-pool pads as TensorFlow's "SAME" does, for weights trained there.
    same_convolutions: so do the strided convolutions (official BYOL; official SimCLR's do not).
    norm: "batch", or "group": GroupNorm after convolutions with standardized weights, so that no
    image depends on the others of its batch. The layers have the same names (bn1, ...).

    >>> ResNet(18, width=0.25, stem="small")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 128])
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, depth: int, *, width: float = 1.0, stem: str = "large",
        selective_kernels: bool = False, projection_in_first_group: bool = False,
        same_padding: bool = False, same_convolutions: bool = False, norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        base = base_channels(width)
        self.conv1 = stem_convolution(base, stem, norm, deep=selective_kernels)
        self.bn1 = norm_layer(base, norm)
        self.maxpool = stem_pool(stem, same_padding)
        counts = BASIC[depth] if depth in BASIC else BOTTLENECK[depth]
        wide = base
        for group, count in enumerate(counts):
            inner = base << group
            blocks: list[BasicBlock | Bottleneck] = []
            for number in range(count):
                stride = 2 if group > 0 and number == 0 else 1
                project = number == 0 and (group > 0 or projection_in_first_group)
                if depth in BASIC:
                    blocks.append(BasicBlock(wide, inner, stride, project, norm))
                else:
                    blocks.append(Bottleneck(wide, inner, stride, selective_kernels, norm))
                wide = blocks[-1].channels
            self.add_module(f"layer{group + 1}", nn.Sequential(*blocks))
        self.features = wide
        if same_convolutions:
            pad_strided_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.maxpool(F.relu(self.bn1(self.conv1(images)), inplace=True))
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
        return x.mean((2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [B, C, H, W] -> [B, channels, H/stride, W/stride]."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, project: bool, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.channels = channels
        self.conv1 = conv(channels_in, channels, 3, stride, norm)
        self.bn1 = norm_layer(channels, norm)
        self.conv2 = conv(channels, channels, 3, 1, norm)
        self.bn2 = norm_layer(channels, norm)
        self.downsample = shortcut(channels_in, channels, stride, norm) if project else None

    @property
    def last_norm(self) -> Norm:
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (or selective kernels), 1x1 to four times the channels, beside a shortcut."""

    def __init__(
        self, channels_in: int, inner: int, stride: int, selective: bool, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.channels = 4 * inner
        self.conv1 = conv(channels_in, inner, 1, 1, norm)
        self.bn1 = norm_layer(inner, norm)
        self.conv2 = (
            SelectiveKernels(inner, stride, norm) if selective
            else conv(inner, inner, 3, stride, norm)
        )  # fmt: skip
        self.bn2 = None if selective else norm_layer(inner, norm)
        self.conv3 = conv(inner, self.channels, 1, 1, norm)
        self.bn3 = norm_layer(self.channels, norm)
        project = stride > 1 or channels_in != self.channels
        self.downsample = (
            shortcut(channels_in, self.channels, stride, norm, pooled=selective)
            if project else None
        )  # fmt: skip

    @property
    def last_norm(self) -> Norm:
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True))
        if self.bn2 is not None:
            y = F.relu(self.bn2(y), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class SelectiveKernels(nn.Module):
    """Two streams of 3x3 features, mixed per image and channel by their own global mean.

    a, b = ReLU(BN(conv x));  u = mean over positions of (a + b);  s = W2 ReLU(BN(W1 u));
    y = softmax over the two streams of s, times (a, b).
    """

    def __init__(self, channels: int, stride: int, norm: str = "batch") -> None:
        super().__init__()
        squeezed = max(channels // 16, 32)
        self.conv = conv(channels, 2 * channels, 3, stride, norm)
        self.bn = norm_layer(2 * channels, norm)
        self.squeeze = conv(channels, squeezed, 1, 1, norm)
        # One value per channel: small groups would have too few values for a variance.
        self.squeeze_bn = norm_layer(squeezed, norm, most_groups=1)
        self.select = conv(squeezed, 2 * channels, 1)  # no norm follows, so its scale matters

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.bn(self.conv(x)), inplace=True).chunk(2, dim=1)
        u = (a + b).mean((2, 3), keepdim=True)
        score_a, score_b = self.select(F.relu(self.squeeze_bn(self.squeeze(u)))).chunk(2, dim=1)
        # A softmax over two is the sigmoid of their difference.
        return torch.lerp(b, a, torch.sigmoid(score_a - score_b))


class ShortcutPool(nn.Module):
    """The 2x2 mean before a ResNet-D shortcut, as SimCLRv2 pads it: size n -> ceil(n / stride).

    Stride 2 pads one row and column of zeros at the end and counts them, which matters at odd sizes
    only; stride 1 averages only values inside the image.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 2)
        # Repeating the last row and column gives the mean of the values inside, and unlike
        # replication padding it has a deterministic gradient on every device.
        x = torch.cat([x, x[:, :, -1:]], dim=2)
        return F.avg_pool2d(torch.cat([x, x[..., -1:]], dim=3), 2, 1)


class SamePool(nn.Module):
    """3x3/2 max-pool with TensorFlow's "SAME" padding: at even sizes after the end only."""

    def forward(self, x: Tensor) -> Tensor:
        top, left = x.shape[2] % 2, x.shape[3] % 2
        return F.max_pool2d(F.pad(x, (left, 1, top, 1), value=-torch.inf), 3, 2)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: size n -> ceil(n / stride), also dilated.

    Of an odd number of padded rows or columns the end has one more.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            step * (size - 1) + 1
            for step, size in zip(self.dilation, self.kernel_size, strict=True)
        )
        left, right = same_margins(x.shape[3], width, self.stride[1])
        top, bottom = same_margins(x.shape[2], height, self.stride[0])
        y: Tensor = self._conv_forward(F.pad(x, (left, right, top, bottom)), self.weight, None)
        return y


def same_margins(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows of padding before and after ``size`` rows, as TensorFlow's "SAME" has them."""
    margin = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return margin // 2, margin - margin // 2


def pad_strided_convolutions(network: nn.Module) -> None:
    """Give every strided convolution of ``network`` "SAME" padding; names and weights stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.stride != (1, 1):
            module.__class__ = SameConv2d
            module.padding = (0, 0)


def base_channels(width: float) -> int:
    """Channels after the stem: 64 times the width, rounded, at least 1."""
    return max(1, round(64 * width))


def conv(
    channels_in: int, channels: int, size: int, stride: int = 1, norm: str = "batch"
) -> nn.Conv2d:
    """A convolution without bias, with standardized weights where GroupNorm follows it."""
    kind = StandardizedConv2d if norm == "group" else nn.Conv2d
    return kind(channels_in, channels, size, stride, padding=size // 2, bias=False)


def norm_layer(channels: int, norm: str, most_groups: int = 32) -> Norm:
    """BatchNorm; or GroupNorm in 32 groups, or the most that divide the channels.

    A group has at least two channels if there are two: a norm of a single value is always 0.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    most = max(1, min(most_groups, channels // 2))
    return nn.GroupNorm(max(n for n in range(1, most + 1) if channels % n == 0), channels)


class StandardizedConv2d(nn.Conv2d):
    """A convolution that standardizes its filters to mean 0 and variance 1 in each forward pass.

    W' = (W - mean) / sqrt(variance + 1e-10), for each output channel over (inputs, height, width).
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        standard = (self.weight - mean) * torch.rsqrt(variance + 1e-10)
        y: Tensor = self._conv_forward(x, standard, None)
        return y


def stem_convolution(base: int, stem: str, norm: str = "batch", *, deep: bool) -> nn.Module:
    """To ``base`` channels; a deep (ResNet-D) large stem is three 3x3 convolutions."""
    if stem != "large":
        first = conv(3, base, 3, 2 if stem == "medium" else 1, norm)
        first.padding = (2, 2) if stem == "padded" else first.padding
        return first
    if not deep:
        return conv(3, base, 7, 2, norm)
    half = max(1, base // 2)
    return nn.Sequential(
        conv(3, half, 3, 2, norm), norm_layer(half, norm), nn.ReLU(inplace=True),
        conv(half, half, 3, 1, norm), norm_layer(half, norm), nn.ReLU(inplace=True),
        conv(half, base, 3, 1, norm),
    )  # fmt: skip


def stem_pool(stem: str, same_padding: bool) -> nn.Module:
    if stem != "large":
        return nn.Identity()
    return SamePool() if same_padding else nn.MaxPool2d(3, 2, padding=1)


def shortcut(
    channels_in: int, channels: int, stride: int, norm: str = "batch", *, pooled: bool = False
) -> nn.Sequential:
    """A 1x1 convolution and its norm; ``pooled`` takes the stride in a 2x2 mean before it."""
    before = [ShortcutPool(stride)] if pooled else []
    project = conv(channels_in, channels, 1, 1 if pooled else stride, norm)
    return nn.Sequential(*before, project, norm_layer(channels, norm))
