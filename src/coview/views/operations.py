"""Operations that only some views have, as frozen values; their place in a view is in plan.py.

They serve the papers' experiments: SimCLR's compositions of augmentations (section 3.1, figure 5)
and SupCon's learned policies. Figure 5 names its operations without numbers, so the defaults of
Cutout, Noise and QuarterTurns are choices of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coview.views.bounds import interval, probability, require

MOST_OPERATIONS = 8
"""The longest chain that RandAugment may draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutout:
    """A rectangle erased wholly within the view, at any place with equal chance.

    ``height`` and ``width`` are shares of the view's side, each uniform; ``width`` None makes a
    square. ``fill`` is its value in all channels, 0 to 1, before mean and std. The default, one
    gray square of half the side, is a choice of this project; the operation is that of DeVries and
    Taylor 2017, whose square may also reach over the border.
    """

    probability: float = 1.0
    height: tuple[float, float] = (0.5, 0.5)
    width: tuple[float, float] | None = None
    fill: float = 0.5

    def __post_init__(self) -> None:
        probability("Cutout.probability", self.probability)
        interval("Cutout.height", self.height, 0.0, 1.0)
        if self.width is not None:
            interval("Cutout.width", self.width, 0.0, 1.0)
        require(0 <= self.fill <= 1, f"Cutout.fill is {self.fill}; give a value from 0 to 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Gaussian noise, independent for every pixel and channel, clamped to [0, 1] afterwards.

    ``sigma`` is uniform per view, in units of the view's range [0, 1]. The noise of a pixel is
    keyed like every draw, so it is the same on any worker, device and batch.
    """

    probability: float = 1.0
    sigma: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self) -> None:
        probability("Noise.probability", self.probability)
        interval("Noise.sigma", self.sigma, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate90:
    """A rotation by ``turns`` quarters of a circle counter-clockwise, each equally likely."""

    probability: float = 1.0
    turns: tuple[int, ...] = (0, 1, 2, 3)

    def __post_init__(self) -> None:
        probability("QuarterTurns.probability", self.probability)
        known = len(self.turns) > 0 and set(self.turns) <= {0, 1, 2, 3}
        require(
            known and len(set(self.turns)) == len(self.turns),
            f"QuarterTurns.turns is {self.turns}; give some of 0, 1, 2 and 3, each once.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoAugment:
    """One of 25 pairs of operations learned for a data set (Cubuk et al. 2019, AutoAugment).

    Semantics of torchvision's AutoAugment on 8-bit images: nearest neighbors, black borders.
    """

    policy: Literal["imagenet", "cifar10"] = "imagenet"

    def __post_init__(self) -> None:
        require(
            self.policy in ("imagenet", "cifar10"),
            f"AutoAugment.policy is {self.policy!r}; give 'imagenet' or 'cifar10'.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment:
    """``operations`` of 14 known ones in a row at one magnitude (Cubuk et al. 2020, RandAugment).

    Semantics of torchvision's RandAugment on 8-bit images: nearest neighbors, black borders;
    ``magnitude`` counts steps of a scale of ``bins``. The defaults are torchvision's.
    """

    operations: int = 2
    magnitude: int = 9
    bins: int = 31

    def __post_init__(self) -> None:
        require(
            1 <= self.operations <= MOST_OPERATIONS,
            f"RandAugment.operations is {self.operations}; give 1 to {MOST_OPERATIONS}.",
        )
        require(self.bins >= 2, f"RandAugment.bins is {self.bins}; give 2 or more.")
        require(
            0 <= self.magnitude < self.bins,
            f"RandAugment.magnitude is {self.magnitude}; "
            f"give a step of its scale, 0 to {self.bins - 1}.",
        )
