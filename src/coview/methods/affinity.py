"""Similarity of two local views of an image (LoGo's affinity), which the encoder minimizes.

An affinity l_a is larger for more similar pairs. It is the cosine, or it is estimated by an
adversarial critic D that is trained to distinguish pairs of one image from pairs of two images.
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
    """l_a(a, b) = cos(a, b).

    >>> CosineAffinity()
    CosineAffinity()
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """l_a learned by a perceptron D on [a; b], unit rows, with LayerNorm and ReLU inside.

    loss "logistic": D minimizes mean sp(-D) over pairs of one image plus mean sp(D) over pairs of
    two, sp(x) = ln(1 + e^x); l_a = sp(D) (the authors' code). "literal": equation 6 as it is
    printed, which has no maximum unless f is bounded, so f = tanh(D) maximizes its mean over pairs
    of one image less that over pairs of two, and l_a = f.
    ``hidden`` is the width of its ``layers`` hidden layers. Training is SGD at the constant rate
    ``learning_rate`` x batch / 256. ``noise`` / sqrt(width) is the standard deviation of Gaussian
    noise that is added to each entry of a and b, in both kinds of pairs. All values are means over
    both orders of a pair. Raises InvalidValue, UnknownName.

    >>> Critic(loss="literal", hidden=128).layers
    2
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
            raise InvalidValue("The critic needs `hidden` and `layers` of at least 1.")
        if not (0 <= self.momentum < 1 and min(self.learning_rate, self.weight_decay) >= 0):
            raise InvalidValue(
                f"The critic has `learning_rate` {self.learning_rate}, `momentum` {self.momentum} "
                f"and `weight_decay` {self.weight_decay}; expected >= 0, and momentum < 1."
            )
        if not 0 <= self.noise < math.inf:
            raise InvalidValue(f"The critic's `noise` is {self.noise}; expected >= 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedWeight:
    """lambda of equation 9: the loss gains lambda times the affinity. Range: >= 0.

    Raises InvalidValue.

    >>> FixedWeight(value=5e-4)
    FixedWeight(value=0.0005)
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:
            raise InvalidValue(f"lambda is {self.value}; expected >= 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientRatio:
    """lambda = min(1, limit |g_s| / |g_a|) with g_s, g_a the gradients of similarity and affinity
    in the parameters of encoder and head at this step (the authors' code uses the norms of the
    previous step). Costs two more backward passes. Range: limit >= 0. Raises InvalidValue.

    >>> GradientRatio().limit
    0.015
    """

    limit: float = 0.015

    def __post_init__(self) -> None:
        if not 0 <= self.limit < math.inf:
            raise InvalidValue(f"The gradient ratio is {self.limit}; expected >= 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repulsion:
    """The mean affinity over all pairs of the views with indices ``views``, times ``balance``.

    Raises InvalidValue.

    >>> Repulsion(views=(2, 3, 4), balance=FixedWeight(value=1e-4)).pairs
    ((2, 3), (2, 4), (3, 4))
    """

    views: tuple[int, ...]
    affinity: CosineAffinity | Critic = Critic()
    balance: FixedWeight | GradientRatio

    def __post_init__(self) -> None:
        if len(set(self.views)) < 2:
            raise InvalidValue(
                "`views` has fewer than two views; a repulsion needs at least two local views."
            )

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple(combinations(self.views, 2))
