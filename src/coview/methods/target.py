"""What embeddings are compared with: values, the momentum encoder, and the frozen teacher."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.methods.passes import Outputs


@dataclass(frozen=True, slots=True)
class SameNetwork:
    """Keys are embeddings of the network itself; the gradient flows through them.

    >>> SameNetwork()
    SameNetwork()
    """


@dataclass(frozen=True, slots=True)
class StopGradient:
    """Keys are embeddings of the network itself, as constants (SimSiam's stop-gradient).

    >>> StopGradient()
    StopGradient()
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EMA:
    """Keys come from a momentum encoder: a copy of encoder and head, updated as a moving average.

    After each step xi <- m xi + (1 - m) theta, where m goes from ``start`` to ``end``
    along half a cosine over the run (BYOL, appendix J: m = 1 - (1 - start)(cos(pi k / K) + 1) / 2
    for end 1); equal numbers keep it constant (MoCo). The copy has its own BatchNorm statistics.
    Range 0 <= start <= end <= 1 and start < 1: from 1 on the copy would stay as it was
    initialized. Raises InvalidValue.

    >>> EMA(start=0.996, end=1.0).momentum(step=100, total_steps=100)
    1.0
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (0 <= self.start <= self.end <= 1 and self.start < 1):
            raise InvalidValue(
                f"The momentum goes from {self.start} to {self.end}; expected "
                "0 <= start <= end <= 1 and start < 1, such as 0.996 to 1."
            )

    def momentum(self, step: float, total_steps: int | None) -> float:
        """m after step number ``step`` of ``total_steps``, counted from 0.

        Raises InvalidValue if m changes along the run and ``total_steps`` is None.
        """
        if self.start == self.end:
            return self.end
        if total_steps is None:
            raise InvalidValue(
                "A momentum that changes along the run needs `total_steps`, the length of the run."
            )
        rising = (math.cos(math.pi * min(1.0, step / total_steps)) + 1) / 2
        return self.end - (self.end - self.start) * rising


@dataclass(frozen=True, slots=True)
class Teacher:
    """The logits of a trained classifier that does not change, of the same views as the student's.

    Its weights are no part of a method or recipe: a run names their file and its hash.

    >>> Teacher()
    Teacher()
    """


Target = SameNetwork | StopGradient | EMA | Teacher
SAME_NETWORK = SameNetwork()


class MomentumEncoder(nn.Module):
    """A copy of encoder and head, updated as a moving average; its parameters take no gradient.

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


class FrozenTeacher(nn.Module):
    """``network`` in evaluation mode and without gradients: images -> its logits [B, C].

    The network is no part of the state of what holds the teacher: it has no parameters, buffers or
    modules here, so that no checkpoint repeats it and no optimizer or training mode reaches it. It
    moves with its owner to another device or memory format.

    >>> teacher = FrozenTeacher(nn.Sequential(nn.BatchNorm1d(2)))
    >>> teacher.train().state_dict(), teacher(torch.ones(1, 2)).requires_grad
    (OrderedDict(), False)
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network.eval().requires_grad_(False),)

    def _apply(self, fn: Any, recurse: bool = True) -> FrozenTeacher:
        self._network[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._network[0](images)
        return logits
