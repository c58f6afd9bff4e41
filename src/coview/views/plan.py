"""What a view is: frozen values, without images and without randomness.

The operations of a view run in this order, unless an OrderedViewSpec gives another:

    crop, second crop, resize, flip      where the view looks
    AutoAugment or RandAugment           on the view rounded to 8 bits
    color jitter, grayscale, blur, solarize
    rotation by quarter turns, Sobel, noise, cutout
    normalize

So color operations never see normalized numbers, and what is cut out stays flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coview.views.operations import (
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Interpolation,
    Jitter,
    Noise,
    RandAugment,
    Rotate90,
    require,
    require_probability,
)

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """One view: ``size`` pixels square, float32 in [0, 1] (before ``mean`` and ``std``, if any).

    ``crop`` None takes the central square, the same every time. ``second_crop`` is drawn within
    the first (so its area is a share of the first's); the image is resized once, from the second.
    ``share_crop_with`` is the index of another view of the plan whose first crop this view takes,
    so that both look at the same place. ``flip``, ``grayscale``, ``solarize`` and ``sobel`` are
    probabilities. Solarize inverts values from ``solarize_threshold`` up. Sobel puts the gradient
    magnitude of the gray image, divided by its largest possible value, into all channels. Raises
    InvalidValue for values that cannot be drawn or rendered.
    """

    size: int
    crop: Crop | None = None
    flip: float = 0.0
    jitter: Jitter | None = None
    grayscale: float = 0.0
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
            isinstance(self.size, int | np.integer) and 1 <= self.size <= 4096,
            f"`ViewSpec.size` is {self.size!r}; expected the side in whole pixels, 1 to 4096.",
        )
        for name in ("flip", "grayscale", "solarize", "solarize_threshold", "sobel"):
            require_probability(f"ViewSpec.{name}", getattr(self, name))
        require(
            (self.mean is None) == (self.std is None),
            "ViewSpec has only one of `mean` and `std`; give both, or neither for views in [0, 1].",
        )
        for name, triple in (("mean", self.mean), ("std", self.std)):
            require(
                triple is None or len(triple) == 3,
                f"`ViewSpec.{name}` is {triple}; expected three numbers, one each for red, green "
                "and blue.",
            )
        require(
            self.std is None or min(self.std) > 0,
            f"`ViewSpec.std` is {self.std}; expected numbers above 0.",
        )
        require(
            self.blur is None or self.blur.radius(self.size) < self.size,
            f"`Blur.kernel_size` is {self.blur and self.blur.kernel_size}, too long to reflect in "
            f"{self.size} pixels; expected at most {2 * self.size - 1}.",
        )
        require(
            self.share_crop_with is None or self.crop is not None,
            "`ViewSpec.share_crop_with` is given without a `crop`; give the crop of both views.",
        )
        require(
            self.second_crop is None or self.second_crop.interpolation == self.interpolation,
            "The interpolation of `second_crop` differs from that of `crop`, but the image is "
            f"resized once; give {self.interpolation!r} to both.",
        )

    def unnormalize(self, views: Tensor) -> Tensor:
        """Views [..., 3, S, S] of this specification without ``mean`` and ``std``, in [0, 1]."""
        if self.mean is None or self.std is None:
            return views
        mean, std = (torch.tensor(triple)[:, None, None] for triple in (self.mean, self.std))
        return views * std + mean

    @property
    def multi_pass(self) -> bool:
        """Whether the view has an operation that the fused kernel lacks."""
        others = (self.augment, self.rotate90, self.noise, self.cutout)
        return self.sobel > 0 or any(operation is not None for operation in others)

    @property
    def interpolation(self) -> Interpolation:
        """How the image is resized; the central square is resized bilinearly."""
        return "bilinear" if self.crop is None else self.crop.interpolation


ORDERED = (
    "second_crop", "augment", "jitter", "grayscale", "blur", "solarize", "rotate90", "sobel",
    "noise", "cutout",
)  # fmt: skip
"""The fields of a ViewSpec that an OrderedViewSpec puts in an order, in that of a ViewSpec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedViewSpec(ViewSpec):
    """A view whose operations run in ``order`` on the crop that was resized and flipped.

    ``order`` names every operation of the view once, by its field (ORDERED). Each takes what the
    one before it has left, so that ``second_crop`` is cut out of the view of ``size`` pixels and
    resized to ``size`` again, wherever it stands. Mean and std come last. A view in the usual order
    is a ViewSpec: it is rendered in fewer passes, and its JSON form and hash know no order. Raises
    InvalidValue for an order that leaves an operation out, repeats one, or names one that the view
    does not have.

    >>> OrderedViewSpec(size=8, blur=Blur(), sobel=1.0, order=("sobel", "blur")).multi_pass
    True
    """

    order: tuple[str, ...]

    def __post_init__(self) -> None:
        ViewSpec.__post_init__(self)
        own = [name for name in ORDERED if getattr(self, name)]
        require(
            sorted(self.order) == sorted(own),
            f"`OrderedViewSpec.order` is {self.order}; expected each operation of the view once: "
            f"{', '.join(own) or 'it has none'}.",
        )

    @property
    def multi_pass(self) -> bool:
        """True: the fused kernel knows one order."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """The views of one image in a step; they may differ in size.

    Raises InvalidValue for an empty plan, and for a ``share_crop_with`` that names no other view
    with the same crop.
    """

    views: tuple[ViewSpec, ...]

    def __post_init__(self) -> None:
        require(len(self.views) > 0, "`ViewPlan.views` is empty; give at least one ViewSpec.")
        last = len(self.views) - 1
        for index, view in enumerate(self.views):
            other = view.share_crop_with
            if other is None:
                continue
            require(
                0 <= other <= last and other != index,
                f"View {index} takes the crop of view {other}; expected another view, 0 to {last}.",
            )
            require(
                self.views[other].share_crop_with is None and self.views[other].crop == view.crop,
                f"View {index} takes the crop of view {other}, which draws another; "
                "give both the same Crop, and `share_crop_with` to one of them.",
            )
