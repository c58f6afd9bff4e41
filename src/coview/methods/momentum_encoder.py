"""The momentum encoder: a copy of encoder and head, updated as a moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from coview.methods.passes import Outputs


class MomentumEncoder(nn.Module):
    """Starts as a copy, in training mode like the original; its parameters take no gradient.

    BatchNorm statistics are computed from its own inputs, not averaged.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = copy.deepcopy(encoder), copy.deepcopy(head)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Outputs:
        return (self.head(self.encoder(images)),)

    @torch.no_grad()
    def update(self, encoder: nn.Module, head: nn.Module, momentum: float) -> None:
        """xi <- momentum xi + (1 - momentum) theta, once, for every parameter."""
        averages: list[Tensor] = list(self.parameters())
        sources: list[Tensor] = [*encoder.parameters(), *head.parameters()]
        torch._foreach_lerp_(averages, sources, 1 - momentum)
