"""AutoAugment and RandAugment: their policies, and torchvision's operations on 8-bit batches.

A batch is processed in groups of equal operation and magnitude, so Python runs once per group and
not once per view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from coview.views.parameters import ViewParams

RANDOM_OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""The operations that RandAugment draws from, in torchvision's order."""

OPERATIONS = (*RANDOM_OPERATIONS, "Invert")
"""Every operation; FULL_ROW holds its index here, and 0 is none."""

SIGNED = frozenset(OPERATIONS[1:10])
"""Operations whose magnitude is negative half of the time."""


class PolicyStep(NamedTuple):
    """One operation of a learned pair; ``level`` is a step of ten, or None without magnitude."""

    name: str
    probability: float
    level: int | None


def _parse_pairs(text: str) -> tuple[tuple[PolicyStep, PolicyStep], ...]:
    def parse(step: str) -> PolicyStep:
        name, probability, *level = step.split()
        return PolicyStep(name, float(probability), int(level[0]) if level else None)

    lines = [line.split(",") for line in text.strip().splitlines()]
    return tuple((parse(first), parse(second)) for first, second in lines)


PAIRS = {
    "imagenet": _parse_pairs("""
        Posterize 0.4 8, Rotate 0.6 9
        Solarize 0.6 5, AutoContrast 0.6
        Equalize 0.8, Equalize 0.6
        Posterize 0.6 7, Posterize 0.6 6
        Equalize 0.4, Solarize 0.2 4
        Equalize 0.4, Rotate 0.8 8
        Solarize 0.6 3, Equalize 0.6
        Posterize 0.8 5, Equalize 1.0
        Rotate 0.2 3, Solarize 0.6 8
        Equalize 0.6, Posterize 0.4 6
        Rotate 0.8 8, Color 0.4 0
        Rotate 0.4 9, Equalize 0.6
        Equalize 0.0, Equalize 0.8
        Invert 0.6, Equalize 1.0
        Color 0.6 4, Contrast 1.0 8
        Rotate 0.8 8, Color 1.0 2
        Color 0.8 8, Solarize 0.8 7
        Sharpness 0.4 7, Invert 0.6
        ShearX 0.6 5, Equalize 1.0
        Color 0.4 0, Equalize 0.6
        Equalize 0.4, Solarize 0.2 4
        Solarize 0.6 5, AutoContrast 0.6
        Invert 0.6, Equalize 1.0
        Color 0.6 4, Contrast 1.0 8
        Equalize 0.8, Equalize 0.6
    """),
    "cifar10": _parse_pairs("""
        Invert 0.1, Contrast 0.2 6
        Rotate 0.7 2, TranslateX 0.3 9
        Sharpness 0.8 1, Sharpness 0.9 3
        ShearY 0.5 8, TranslateY 0.7 9
        AutoContrast 0.5, Equalize 0.9
        ShearY 0.2 7, Posterize 0.3 7
        Color 0.4 3, Brightness 0.6 7
        Sharpness 0.3 9, Brightness 0.7 9
        Equalize 0.6, Equalize 0.5
        Contrast 0.6 7, Sharpness 0.6 5
        Color 0.7 7, TranslateX 0.5 8
        Equalize 0.3, AutoContrast 0.4
        TranslateY 0.4 3, Sharpness 0.2 6
        Brightness 0.9 6, Color 0.2 8
        Solarize 0.5 2, Invert 0.0
        Equalize 0.2, AutoContrast 0.6
        Equalize 0.2, Equalize 0.6
        Color 0.9 9, Equalize 0.6
        AutoContrast 0.8, Solarize 0.2 8
        Brightness 0.1 3, Color 0.7 0
        Solarize 0.4 5, AutoContrast 0.9
        TranslateY 0.9 9, TranslateY 0.7 9
        AutoContrast 0.9, Solarize 0.8 3
        Equalize 0.8, Invert 0.1
        TranslateY 0.7 9, AutoContrast 0.9
    """),
}
"""The learned policies of AutoAugment (Cubuk et al. 2019), with torchvision's numbers: name,
probability and level; one pair per line."""


def signed_magnitudes(name: str, level: int | None, bins: int, size: int) -> tuple[float, float]:
    """Magnitude of step ``level`` of ``bins``, (negative, positive); equal without a sign."""
    scale = _scales(bins, size).get(name)
    value = 0.0 if scale is None or level is None else float(scale[level])
    return (-value if name in SIGNED else value), value


@lru_cache(maxsize=16)
def _scales(bins: int, size: int) -> dict[str, torch.Tensor]:
    """Magnitudes of every step: torchvision's for float images."""
    share = torch.linspace(0.0, 0.9, bins)
    shear = torch.linspace(0.0, 0.3, bins)
    shift = torch.linspace(0.0, 150.0 / 331.0 * size, bins)
    return {
        "ShearX": shear, "ShearY": shear, "TranslateX": shift, "TranslateY": shift,
        "Rotate": torch.linspace(0.0, 30.0, bins), "Brightness": share, "Color": share,
        "Contrast": share, "Sharpness": share,
        "Posterize": (8 - torch.arange(bins) / ((bins - 1) / 4)).round(),
        "Solarize": torch.linspace(1.0, 0.0, bins),
    }  # fmt: skip


def apply_augmentations(views: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """Views [B, 3, S, S] in [0, 1] with their sampled operations: uint8 of the same shape.

    All views are rounded first, because the operations are defined on 8-bit images.
    """
    images = (views * 255).round().to(torch.uint8)
    for k in range(params["operation"].shape[1]):
        if not params["operation"][:, k].any():
            continue
        pairs = np.stack([params["operation"][:, k], params["magnitude"][:, k]], axis=1)
        kinds, kind = np.unique(pairs, axis=0, return_inverse=True)
        for index, (number, magnitude) in enumerate(kinds.tolist()):
            if number > 0:
                rows = torch.from_numpy(np.flatnonzero(kind.reshape(-1) == index)).to(images.device)
                images[rows] = apply_operation(images[rows], OPERATIONS[int(number)], magnitude)
    return images


def apply_operation(images: torch.Tensor, name: str, magnitude: float) -> torch.Tensor:
    """One operation by its name on uint8 images [B, 3, S, S], by torchvision's functions."""
    if name in {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}:
        return _move(images, name, magnitude)
    return _color_operation(name)(images, magnitude)


def _move(images: torch.Tensor, name: str, magnitude: float) -> torch.Tensor:
    """Shear by ``magnitude`` as a slope, shift by whole pixels, or rotate by degrees."""
    from torchvision.transforms.v2 import functional

    moved: torch.Tensor
    if name == "Rotate":
        moved = functional.rotate(images, magnitude)
        return moved
    # torchvision's shear is an angle; its center is the corner of the image.
    angle, pixels = math.degrees(math.atan(magnitude)), int(magnitude)
    shear = {"ShearX": [angle, 0.0], "ShearY": [0.0, angle]}.get(name, [0.0, 0.0])
    shift = {"TranslateX": [pixels, 0], "TranslateY": [0, pixels]}.get(name, [0, 0])
    center = [0.0, 0.0] if name.startswith("Shear") else None
    moved = functional.affine(
        images, angle=0.0, translate=shift, scale=1.0, shear=shear, center=center
    )
    return moved


@lru_cache(maxsize=16)
def _color_operation(name: str) -> Callable[[torch.Tensor, float], torch.Tensor]:
    from torchvision.transforms.v2 import functional as of

    return {
        "Brightness": lambda x, m: of.adjust_brightness(x, 1.0 + m),
        "Color": lambda x, m: of.adjust_saturation(x, 1.0 + m),
        "Contrast": lambda x, m: of.adjust_contrast(x, 1.0 + m),
        "Sharpness": lambda x, m: of.adjust_sharpness(x, 1.0 + m),
        "Posterize": lambda x, m: of.posterize(x, int(m)),
        "Solarize": lambda x, m: of.solarize(x, 255 * m),
        "AutoContrast": lambda x, m: of.autocontrast(x),
        "Equalize": lambda x, m: of.equalize(x),
        "Invert": lambda x, m: of.invert(x),
    }[name]
