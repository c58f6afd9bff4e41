"""What a view is: frozen values, without images and without randomness.

The operations of a view always run in this order: crop, resize, flip, colour jitter, grey, blur,
solarise, normalise. So colour can never meet normalised numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from coview.core.errors import InvalidValue

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InvalidValue(sentence)


def _probability(where: str, value: float) -> None:
    _require(0 <= value <= 1, f"{where} is {value}; it is a probability, so give 0 to 1.")


def _range(where: str, bounds: tuple[float, float], low: float, high: float) -> None:
    fits = len(bounds) == 2 and low < bounds[0] <= bounds[1] <= high
    limit = f"above {low:g}" if math.isinf(high) else f"above {low:g} and up to {high:g}"
    _require(fits, f"{where} is {bounds}; give a smaller and a larger number {limit}.")


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
        _range("Crop.area", self.area, 0.0, 1.0)
        _range("Crop.ratio", self.ratio, 0.0, math.inf)
        known = ("bilinear", "bicubic")
        _require(
            self.interpolation in known,
            f"Crop.interpolation is {self.interpolation!r}; give 'bilinear' or 'bicubic'.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """Colour jitter in a random order per view, with torchvision's formulas.

    Brightness, contrast and saturation factors are uniform in [max(0, 1 - x), 1 + x]; the hue
    shift is uniform in [-hue, hue] turns. Values are clamped to [0, 1] after each operation.
    """

    probability: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2

    def __post_init__(self) -> None:
        _probability("Jitter.probability", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            _require(
                0 <= value < math.inf, f"Jitter.{name} is {value}; give a finite number from 0."
            )
        _require(0 <= self.hue <= 0.5, f"Jitter.hue is {self.hue}; it counts turns: give 0 to 0.5.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """Gaussian blur with reflected borders; ``sigma`` in pixels of the view, uniform per view.

    ``taps`` is the odd length of the kernel. None takes the longer of SimCLR's tenth of the side
    and three sigma on either side, so that no kernel cuts off the blur it is asked for.
    """

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    taps: int | None = None

    def __post_init__(self) -> None:
        _probability("Blur.probability", self.probability)
        _range("Blur.sigma", self.sigma, 0.0, math.inf)
        _require(
            self.taps is None or (self.taps > 0 and self.taps % 2 == 1),
            f"Blur.taps is {self.taps}; give an odd number, or None to follow the size and sigma.",
        )

    def radius(self, size: int) -> int:
        """Taps on either side of the centre for a view of ``size`` pixels."""
        if self.taps is not None:
            return self.taps // 2
        return min(max(size // 10 // 2, math.ceil(3 * self.sigma[1])), size - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """One view: ``size`` pixels square, float32 in [0, 1] (before ``mean`` and ``std``, if any).

    ``crop`` None takes the central square, the same every time. ``flip``, ``grey`` and
    ``solarise`` are probabilities; solarise inverts values from ``threshold`` up. Raises
    InvalidValue for what cannot be drawn or rendered.
    """

    size: int
    crop: Crop | None = None
    flip: float = 0.0
    jitter: Jitter | None = None
    grey: float = 0.0
    blur: Blur | None = None
    solarise: float = 0.0
    threshold: float = 0.5
    mean: Triple | None = None
    std: Triple | None = None

    def __post_init__(self) -> None:
        _require(
            isinstance(self.size, int) and 1 <= self.size <= 4096,
            f"ViewSpec.size is {self.size!r}; give the side in whole pixels, 1 to 4096.",
        )
        for name in ("flip", "grey", "solarise", "threshold"):
            _probability(f"ViewSpec.{name}", getattr(self, name))
        _require(
            (self.mean is None) == (self.std is None),
            "ViewSpec has only one of mean and std; give both, or neither for views in [0, 1].",
        )
        for name, triple in (("mean", self.mean), ("std", self.std)):
            _require(
                triple is None or len(triple) == 3,
                f"ViewSpec.{name} is {triple}; give three numbers, one each for red, green, blue.",
            )
        _require(
            self.std is None or min(self.std) > 0, f"ViewSpec.std is {self.std}; give numbers > 0."
        )
        if self.blur is not None and self.blur.radius(self.size) >= self.size:
            raise InvalidValue(
                f"Blur.taps is {self.blur.taps}, too long to reflect in {self.size} pixels; "
                f"give at most {2 * self.size - 1}."
            )

    @property
    def interpolation(self) -> Interpolation:
        """How the image is resized; the central square is resized bilinearly."""
        return "bilinear" if self.crop is None else self.crop.interpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """The views of one image in a step, one specification per slot; slots may differ in size."""

    views: tuple[ViewSpec, ...]

    def __post_init__(self) -> None:
        _require(len(self.views) > 0, "ViewPlan.views is empty; give at least one ViewSpec.")
