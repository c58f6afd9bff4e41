"""The operations of a view as frozen values; plan.py says in which order they run.

Cutout, Noise, Rotate90, AutoAugment and RandAugment serve the papers' experiments: SimCLR's
compositions of augmentations (section 3.1, figure 5) and SupCon's learned policies. Figure 5 names
its operations without numbers, so the defaults of Cutout, Noise and Rotate90 are choices of this
project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from coview.core.errors import InvalidValue

Interpolation = Literal["bilinear", "bicubic"]

MAX_RAND_AUGMENT_OPERATIONS = 8
"""The longest chain that RandAugment may draw."""


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InvalidValue(sentence)


def require_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, f"`{name}` is {value}; expected a probability from 0 to 1.")


def require_interval(name: str, bounds: tuple[float, float], low: float, high: float) -> None:
    """Raise InvalidValue unless ``bounds`` ascend, both above ``low`` and at most ``high``."""
    fits = len(bounds) == 2 and low < bounds[0] <= bounds[1] <= high
    limit = f"above {low:g}" if math.isinf(high) else f"above {low:g} and up to {high:g}"
    require(fits, f"`{name}` is {bounds}; expected a smaller and a larger number {limit}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A random crop: ``area`` as a share of the image, ``ratio`` = width / height.

    Semantics of torchvision's RandomResizedCrop: area uniform, ratio log-uniform, ten attempts,
    then a central crop. The crop is resized with antialiasing.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        require_interval("Crop.area", self.area, 0.0, 1.0)
        require_interval("Crop.ratio", self.ratio, 0.0, math.inf)
        require(
            self.interpolation in ("bilinear", "bicubic"),
            f"`Crop.interpolation` is {self.interpolation!r}; expected 'bilinear' or 'bicubic'.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """Color jitter in a random order per view, with torchvision's formulas.

    Brightness, contrast and saturation factors are uniform in [max(0, 1 - x), 1 + x]; the hue
    shift is uniform in [-hue, hue] turns. Values are clamped to [0, 1] after each operation.
    """

    probability: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2

    def __post_init__(self) -> None:
        require_probability("Jitter.probability", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(
                0 <= value < math.inf,
                f"`Jitter.{name}` is {value}; expected a finite number of at least 0.",
            )
        require(0 <= self.hue <= 0.5, f"`Jitter.hue` is {self.hue}; expected 0 to 0.5 turns.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """Gaussian blur with reflected borders; ``sigma`` in pixels of the view, uniform per view.

    ``kernel_size`` is odd. None takes the longer of SimCLR's tenth of the side and three sigma on
    either side, so that no kernel cuts off its Gaussian.
    """

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    kernel_size: int | None = None

    def __post_init__(self) -> None:
        require_probability("Blur.probability", self.probability)
        require_interval("Blur.sigma", self.sigma, 0.0, math.inf)
        require(
            self.kernel_size is None or (self.kernel_size > 0 and self.kernel_size % 2 == 1),
            f"`Blur.kernel_size` is {self.kernel_size}; expected an odd number, or None to follow "
            "the size of the view and sigma.",
        )

    def radius(self, size: int) -> int:
        """Pixels on either side of the center of the kernel, for a view of ``size`` pixels."""
        if self.kernel_size is not None:
            return self.kernel_size // 2
        return min(max(size // 10 // 2, math.ceil(3 * self.sigma[1])), size - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutout:
    """A rectangle erased wholly within the view, at any place with equal probability.

    ``height`` and ``width`` are shares of the view's side, each uniform; ``width`` None makes a
    square. ``fill`` is its value in all channels, 0 to 1, before mean and std. The default, one
    gray square of half the side, is a choice of this project; the operation is that of DeVries and
    Taylor 2017, whose square may also cross the border.
    """

    probability: float = 1.0
    height: tuple[float, float] = (0.5, 0.5)
    width: tuple[float, float] | None = None
    fill: float = 0.5

    def __post_init__(self) -> None:
        require_probability("Cutout.probability", self.probability)
        require_interval("Cutout.height", self.height, 0.0, 1.0)
        if self.width is not None:
            require_interval("Cutout.width", self.width, 0.0, 1.0)
        require(0 <= self.fill <= 1, f"`Cutout.fill` is {self.fill}; expected 0 to 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Gaussian noise, independent for every pixel and channel, clamped to [0, 1] afterwards.

    ``sigma`` is uniform per view, in units of the view's range [0, 1]. The noise of a pixel is
    keyed like every draw, so it is the same on any worker, device and batch.
    """

    probability: float = 1.0
    sigma: tuple[float, float] = (0.05, 0.2)

    def __post_init__(self) -> None:
        require_probability("Noise.probability", self.probability)
        require_interval("Noise.sigma", self.sigma, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate90:
    """A counter-clockwise rotation by one of ``turns`` quarter turns, each equally likely."""

    probability: float = 1.0
    turns: tuple[int, ...] = (0, 1, 2, 3)

    def __post_init__(self) -> None:
        require_probability("Rotate90.probability", self.probability)
        known = len(self.turns) > 0 and set(self.turns) <= {0, 1, 2, 3}
        require(
            known and len(set(self.turns)) == len(self.turns),
            f"`Rotate90.turns` is {self.turns}; expected some of 0, 1, 2 and 3, each once.",
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
            f"`AutoAugment.policy` is {self.policy!r}; expected 'imagenet' or 'cifar10'.",
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
            1 <= self.operations <= MAX_RAND_AUGMENT_OPERATIONS,
            f"`RandAugment.operations` is {self.operations}; "
            f"expected 1 to {MAX_RAND_AUGMENT_OPERATIONS}.",
        )
        require(self.bins >= 2, f"`RandAugment.bins` is {self.bins}; expected at least 2.")
        require(
            0 <= self.magnitude < self.bins,
            f"`RandAugment.magnitude` is {self.magnitude}; "
            f"expected a step of its scale, 0 to {self.bins - 1}.",
        )
