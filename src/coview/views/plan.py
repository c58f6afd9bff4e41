"""What a view is: frozen values, without images and without randomness.

The operations of a view always run in this order:

    crop, second crop, resize, flip      where the view looks
    AutoAugment or RandAugment           on the view rounded to 8 bits
    color jitter, gray, blur, solarize
    quarter turns, Sobel, noise, cutout
    normalize

So color can never meet normalized numbers, and what is cut out stays flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from coview.core.errors import InvalidValue
from coview.views.bounds import interval, probability, require
from coview.views.operations import AutoAugment, Cutout, Noise, RandAugment, Rotate90

Interpolation = Literal["bilinear", "bicubic"]
Triple = tuple[float, float, float]


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
        interval("Crop.area", self.area, 0.0, 1.0)
        interval("Crop.ratio", self.ratio, 0.0, math.inf)
        known = ("bilinear", "bicubic")
        require(
            self.interpolation in known,
            f"Crop.interpolation is {self.interpolation!r}; give 'bilinear' or 'bicubic'.",
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
        probability("Jitter.probability", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(
                0 <= value < math.inf, f"Jitter.{name} is {value}; give a finite number from 0."
            )
        require(0 <= self.hue <= 0.5, f"Jitter.hue is {self.hue}; it counts turns: give 0 to 0.5.")


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
        probability("Blur.probability", self.probability)
        interval("Blur.sigma", self.sigma, 0.0, math.inf)
        require(
            self.taps is None or (self.taps > 0 and self.taps % 2 == 1),
            f"Blur.taps is {self.taps}; give an odd number, or None to follow the size and sigma.",
        )

    def radius(self, size: int) -> int:
        """Taps on either side of the center for a view of ``size`` pixels."""
        if self.taps is not None:
            return self.taps // 2
        return min(max(size // 10 // 2, math.ceil(3 * self.sigma[1])), size - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """One view: ``size`` pixels square, float32 in [0, 1] (before ``mean`` and ``std``, if any).

    ``crop`` None takes the central square, the same every time. ``second_crop`` is drawn within
    the first (so its area is a share of the first's); the image is resized once, from the second.
    ``share_crop_with`` takes the first crop as another slot of the plan draws it, so that both views
    look at the same place. ``flip``, ``gray``, ``solarize`` and ``sobel`` are probabilities;
    solarize inverts values from ``solarize_threshold`` up; Sobel puts the gradient's magnitude of the gray
    image, over its largest possible value, into all channels. Raises InvalidValue for what cannot
    be drawn or rendered.
    """

    size: int
    crop: Crop | None = None
    flip: float = 0.0
    jitter: Jitter | None = None
    gray: float = 0.0
    blur: Blur | None = None
    solarize: float = 0.0
    solarize_threshold: float = 0.5
    mean: Triple | None = None
    std: Triple | None = None
    second_crop: Crop | None = None
    share_crop_with: int | None = None
    augment: AutoAugment | RandAugment | None = None
    rotate90: Rotate90 | None = None
    sobel: float = 0.0
    noise: Noise | None = None
    cutout: Cutout | None = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.size, int) and 1 <= self.size <= 4096,
            f"ViewSpec.size is {self.size!r}; give the side in whole pixels, 1 to 4096.",
        )
        for name in ("flip", "gray", "solarize", "solarize_threshold", "sobel"):
            probability(f"ViewSpec.{name}", getattr(self, name))
        require(
            (self.mean is None) == (self.std is None),
            "ViewSpec has only one of mean and std; give both, or neither for views in [0, 1].",
        )
        for name, triple in (("mean", self.mean), ("std", self.std)):
            require(
                triple is None or len(triple) == 3,
                f"ViewSpec.{name} is {triple}; give three numbers, one each for red, green, blue.",
            )
        require(
            self.std is None or min(self.std) > 0, f"ViewSpec.std is {self.std}; give numbers > 0."
        )
        if self.blur is not None and self.blur.radius(self.size) >= self.size:
            raise InvalidValue(
                f"Blur.taps is {self.blur.taps}, too long to reflect in {self.size} pixels; "
                f"give at most {2 * self.size - 1}."
            )
        self._check_crops()

    def _check_crops(self) -> None:
        require(
            self.share_crop_with is None or self.crop is not None,
            "ViewSpec.crop_slot is given without a crop; give the crop that both slots draw.",
        )
        require(
            self.second_crop is None or self.second_crop.interpolation == self.interpolation,
            "The second crop's interpolation is not the first's, but the image is resized once; "
            f"give {self.interpolation!r} to both.",
        )

    @property
    def multi_pass(self) -> bool:
        """Whether the view has an operation beyond those of the fused kernel."""
        beyond = (self.augment, self.rotate90, self.noise, self.cutout)
        return self.sobel > 0 or any(operation is not None for operation in beyond)

    @property
    def interpolation(self) -> Interpolation:
        """How the image is resized; the central square is resized bilinearly."""
        return "bilinear" if self.crop is None else self.crop.interpolation


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """The views of one image in a step, one specification per slot; slots may differ in size."""

    views: tuple[ViewSpec, ...]

    def __post_init__(self) -> None:
        require(len(self.views) > 0, "ViewPlan.views is empty; give at least one ViewSpec.")
        for slot, view in enumerate(self.views):
            self._check_shared_crop(slot, view)

    def _check_shared_crop(self, slot: int, view: ViewSpec) -> None:
        other = view.share_crop_with
        if other is None:
            return
        last = len(self.views) - 1
        require(
            0 <= other <= last and other != slot,
            f"View {slot} takes the crop of slot {other}; give another slot, 0 to {last}.",
        )
        require(
            self.views[other].share_crop_with is None and self.views[other].crop == view.crop,
            f"View {slot} takes the crop of slot {other}, which draws another; "
            "give both the same Crop, and crop_slot to one of them.",
        )
