"""The fifteen corruptions of ImageNet-C by name, on the fly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue, UnknownName
from coview.evaluation.corruptions import blur, digital, noise, weather
from coview.evaluation.corruptions.draws import Draws
from coview.evaluation.corruptions.noise import Images
from coview.evaluation.corruptions.parameters import SEVERITIES, Scale, Strength, scale_of

Corruption = Callable[[Images, Strength, Draws], Images]

CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic": digital.elastic,
    "pixelate": digital.pixelate,
    "jpeg": digital.jpeg,
}
"""In the paper's order, which the random numbers depend on: it never changes."""

NOT_PUBLISHED = ("frost",)
"""Corruptions whose images differ from the published ones in kind."""

CHUNK_PIXELS = 1 << 20


def corrupt(
    images: npt.NDArray[np.uint8], ids: npt.NDArray[np.int64], name: str, severity: int, *,
    seed: int = 0, scale: Scale | None = None,
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """The images under one corruption at a severity from 1 to 5.

    Shapes: images uint8 [N, S, S, 3], ids int64 [N] -> uint8 [N, S, S, 3]. The result for an image
    depends on (seed, id, name, severity) and its pixels, never on the batch. ``scale`` holds the
    strengths, by default those published for the nearest size. Source: Hendrycks and Dietterich
    2019, appendix B; "frost" is drawn, not photographed. Raises InvalidValue, UnknownName.

    >>> images = np.full((2, 32, 32, 3), 100, np.uint8)
    >>> corrupt(images, np.arange(2), "contrast", 5).shape
    (2, 32, 32, 3)
    """
    if name not in CORRUPTIONS:
        raise UnknownName("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES:
        raise InvalidValue(f"`severity` is {severity}; expected 1 to 5.")
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if images.dtype != np.uint8 or not square or len(images) != len(ids):
        raise InvalidValue(
            f"`images` are {images.dtype} {list(images.shape)} with {len(ids)} ids; expected uint8 "
            "[N, S, S, 3] with N ids."
        )
    size = images.shape[1]
    scale = scale_of(size) if scale is None else scale
    strength = scale.strengths[name][severity - 1]
    if name == "elastic":
        strength = tuple(number * scale.elastic_unit * size for number in strength)
    key = 8 * list(CORRUPTIONS).index(name) + severity
    chunk = max(1, CHUNK_PIXELS // size**2)
    parts = []
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        corrupted = CORRUPTIONS[name](
            np.ascontiguousarray(images[part]), strength, Draws(ids=ids[part], seed=seed, key=key)
        )
        if scale.jpeg_quality is not None:
            corrupted = digital.recompress(corrupted, scale.jpeg_quality)
        parts.append(corrupted)
    return np.concatenate(parts) if parts else images.copy()
