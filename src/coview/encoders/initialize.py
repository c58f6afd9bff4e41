"""Initial values of a residual network, a function of its shape and a seed only."""

from __future__ import annotations

import math

import torch
from torch import nn

from coview.core.rng import Stream, stream_seed
from coview.encoders.residual import BasicBlock, Bottleneck, ResNet

TRUNCATED_STD = 0.87962566103423978  # standard deviation of N(0, 1) cut off at +-2


def initialize(network: ResNet, *, seed: int, init: str, zero_init_residual: bool) -> None:
    """Initialize every parameter and buffer of ``network``, in place.

    init: "fan-out" draws convolutions from N(0, 2 / fan_out) (He et al., 2015; torchvision's);
    "fan-in" from a normal of variance 1 / fan_in cut off at two deviations (official SimCLR).
    zero_init_residual: the last norm of every residual branch starts at scale 0, so each block
    starts as the identity (Goyal et al., 2017, section 5.1). Does not use the global generator.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "encoder"))
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            init_conv(module.weight, init, generator)
    if zero_init_residual:
        for module in network.modules():
            if isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm.weight)


def init_conv(weight: torch.Tensor, init: str, generator: torch.Generator) -> None:
    """Fill the convolution ``weight`` [out, in, k, k]."""
    if init == "fan-out":
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
        return
    std = math.sqrt(1 / weight[0].numel()) / TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
