"""The published strengths of the fifteen corruptions, for images of 32, 64 and 224 pixels.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", 2019; the numbers are those of the scripts published with it, which made
CIFAR-10-C (32 pixels), Tiny-ImageNet-C (64) and ImageNet-C (224).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coview.core.errors import InvalidValue

SEVERITIES = (1, 2, 3, 4, 5)

Strength = tuple[float, ...]
"""The numbers of one corruption at one severity; their meaning is that of the corruption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The strengths for images of one published size.

    ``strengths`` holds five tuples for each corruption, from severity 1 to 5. ``elastic_unit`` is
    the length that the numbers of "elastic" are multiples of, as a multiple of the side (the script
    for 224 pixels says 244). ``jpeg_quality``: the published files are JPEG of this quality on top
    of the corruption; None where they are arrays.
    """

    name: str
    size: int
    strengths: Mapping[str, tuple[Strength, ...]]
    elastic_unit: float = 1.0
    jpeg_quality: int | None = None


def _single(*values: float) -> tuple[Strength, ...]:
    return tuple((value,) for value in values)


def _zooms(step: tuple[float, ...], stop: tuple[float, ...]) -> tuple[Strength, ...]:
    return tuple((1.0, end, width) for end, width in zip(stop, step, strict=True))


_FINE_ZOOMS = _zooms((0.01,) * 5, (1.06, 1.11, 1.16, 1.21, 1.26))

CIFAR = Scale(
    name="CIFAR-10-C",
    size=32,
    strengths={
        # standard deviation
        "gaussian_noise": _single(0.04, 0.06, 0.08, 0.09, 0.10),
        # photons at value 1
        "shot_noise": _single(500, 250, 100, 75, 50),
        # share of changed values
        "impulse_noise": _single(0.01, 0.02, 0.03, 0.05, 0.07),
        # radius of the disk, deviation of its soft border
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        # deviation, distance in pixels, repetitions
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        # radius, deviation
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        # first zoom, end, step
        "zoom_blur": _FINE_ZOOMS,
        # mean, deviation, zoom and threshold of the flakes; radius and deviation of their motion;
        # share of the image in its whitened self
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        # weight of the image, weight of the frost
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        # amount, decay of the fractal
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        # added to the value of HSV
        "brightness": _single(0.05, 0.1, 0.15, 0.2, 0.3),
        # factor around the mean
        "contrast": _single(0.75, 0.5, 0.4, 0.3, 0.15),
        # in units: size and smoothness of the displacement, size of the affine map
        "elastic": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                    (0.1, 0.03, 0.03)),
        # side as a share
        "pixelate": _single(0.95, 0.9, 0.85, 0.75, 0.65),
        # quality
        "jpeg": _single(80, 65, 58, 50, 40),
    },
)  # fmt: skip

TINY_IMAGENET = Scale(
    name="Tiny-ImageNet-C",
    size=64,
    jpeg_quality=85,
    strengths={
        "gaussian_noise": _single(0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": _single(250, 100, 50, 30, 15),
        "impulse_noise": _single(0.01, 0.02, 0.05, 0.08, 0.14),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": _FINE_ZOOMS,
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8), (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": _single(0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": _single(0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic": ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03),
                    (0.16, 0.03, 0.02)),
        "pixelate": _single(0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg": _single(65, 58, 50, 40, 25),
    },
)  # fmt: skip

IMAGENET = Scale(
    name="ImageNet-C",
    size=224,
    elastic_unit=244 / 224,
    jpeg_quality=85,
    strengths={
        "gaussian_noise": _single(0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": _single(60, 25, 12, 5, 3),
        "impulse_noise": _single(0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": _zooms((0.01, 0.01, 0.02, 0.02, 0.03), (1.11, 1.16, 1.21, 1.26, 1.31)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": _single(0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": _single(0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic": ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02),
                    (0.12, 0.01, 0.02)),
        "pixelate": _single(0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg": _single(25, 18, 15, 10, 7),
    },
)  # fmt: skip

SCALES = (CIFAR, TINY_IMAGENET, IMAGENET)


def scale_of(size: int) -> Scale:
    """The published scale nearest to images of ``size`` pixels, by ratio.

    Raises InvalidValue below 16 pixels, where the widest kernels do not fit.

    >>> [scale_of(size).name for size in (32, 48, 96, 224)]
    ['CIFAR-10-C', 'Tiny-ImageNet-C', 'Tiny-ImageNet-C', 'ImageNet-C']
    """
    if size < 16:
        raise InvalidValue(f"`size` is {size}; a corruption needs images of at least 16 pixels.")
    return min(SCALES, key=lambda scale: max(scale.size / size, size / scale.size))
