"""LoGo's second game: how alike two local views of one image are, which the encoder lowers.

An affinity l_a is larger for more similar pairs. It is either the cosine, or learned by a critic D
that tells pairs of one image from pairs of two and plays against the encoder.
Source: Zhang et al., "Leverage your local and global representations", CVPR 2022, equations 5, 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from coview.core.errors import InvalidValue, UnknownName


@dataclass(frozen=True, slots=True)
class CosineAffinity:
    """l_a(a, b) = cos(a, b)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """l_a learned by a perceptron D on [a; b], unit rows, with LayerNorm and ReLU inside.

    loss "logistic": D minimizes mean sp(-D) over pairs of one image plus mean sp(D) over pairs of
    two, sp(x) = ln(1 + e^x); l_a = sp(D) (the authors' code). "literal": equation 6 as it is
    printed, which has no maximum unless f is bounded, so f = tanh(D) maximizes its mean over pairs
    of one image less that over pairs of two, and l_a = f.
    ``hidden`` is the width of its ``layers`` hidden layers (128 in, 256, 256, 1: 132,865 numbers).
    It is trained by SGD at the constant ``learning_rate`` x batch / 256. ``noise`` is the standard
    deviation of what is added to each entry of a and b, of both kinds of pairs alike, times
    1 / sqrt(width). Both orders of a pair are averaged throughout.
    Raises InvalidValue, UnknownName.
    """

    loss: Literal["logistic", "literal"] = "logistic"
    hidden: int = 256
    layers: int = 2
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 1e-4
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in ("logistic", "literal"):
            raise UnknownName("loss of the critic", str(self.loss), ("logistic", "literal"))
        if min(self.hidden, self.layers) < 1:
            raise InvalidValue("The critic needs at least one hidden layer of at least one unit.")
        if not (0 <= self.momentum < 1 and min(self.learning_rate, self.weight_decay) >= 0):
            raise InvalidValue(
                f"The critic has learning rate {self.learning_rate}, momentum {self.momentum} and "
                f"weight decay {self.weight_decay}; expected from 0 up, momentum below 1."
            )
        if not 0 <= self.noise < math.inf:
            raise InvalidValue(f"The critic's noise is {self.noise}; expected a number from 0 up.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedWeight:
    """lambda of equation 9: the loss gains lambda times the affinity. Range: >= 0."""

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:
            raise InvalidValue(f"lambda is {self.value}; expected a number from 0 up.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientRatio:
    """lambda = min(1, limit |g_s| / |g_a|), g_s and g_a the gradients of the similarity and of the
    affinity in the parameters of encoder and head, both of this step (the authors' code takes the
    norm of the step before). Costs one more backward pass for each. Range: limit >= 0.
    """

    limit: float = 0.015

    def __post_init__(self) -> None:
        if not 0 <= self.limit < math.inf:
            raise InvalidValue(f"The gradient ratio is {self.limit}; expected a number from 0 up.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repulsion:
    """The mean affinity over all pairs of the views in slots ``views``, weighed by ``balance``."""

    views: tuple[int, ...]
    affinity: CosineAffinity | Critic = Critic()
    balance: FixedWeight | GradientRatio

    def __post_init__(self) -> None:
        if len(set(self.views)) < 2:
            raise InvalidValue("Local views repel each other; give at least two of them.")

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The unordered pairs of slots."""
        return tuple(combinations(self.views, 2))
