"""How images are decoded, and the pixels that decoding gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from coview.core.errors import InvalidValue
from coview.data.listing import Unusable
from coview.data.orientation import UPRIGHT, turn_upright
from coview.data.rgb import is_white_assumed, to_rgb
from coview.options import MAX_PIXELS as MAX_PIXELS

LARGEST_MAX_PIXELS = 178_956_970
"""The most that ``max_pixels`` may be: the pixels take 716 MB."""
MAX_ASPECT = 16
"""With a short side, no side is kept longer than this times it (or times 256, if that is more)."""
_DRAFT_FROM = 4
_LONG_SIDE_OF = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSpec:
    """How images are decoded.

    short_side: larger images are resized to it (antialiased bicubic), smaller ones stay unchanged;
    None resizes none. Very long images are resized further, see MAX_ASPECT. max_pixels: images that
    are larger when decoded are rejected by their header; a JPEG of one scan that is resized is
    decoded at an eighth of its sides or more. white: the value that means white in images of more
    than 8 bits that do not declare it.
    """

    short_side: int | None = None
    max_pixels: int = MAX_PIXELS
    white: float | None = None

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise InvalidValue(f"`short_side` is {self.short_side}; expected at least 1 pixel.")
        if not 1 <= self.max_pixels <= LARGEST_MAX_PIXELS:
            raise InvalidValue(
                f"`max_pixels` is {self.max_pixels:,}; expected 1 to {LARGEST_MAX_PIXELS:,} "
                "(cut larger images into tiles first)."
            )
        if self.white is not None and not 0 < self.white < float("inf"):
            raise InvalidValue(
                f"`white` is {self.white}; expected a positive number, such as 4095."
            )

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which an image is kept.

        >>> DecodeSpec(short_side=256).stored_size(1024, 512), DecodeSpec().stored_size(9, 1)
        ((512, 256), (9, 1))
        >>> DecodeSpec(short_side=256).stored_size(10_000, 1)
        (4096, 1)
        """
        side, target = self._limit(width, height)
        if side <= target:
            return width, height
        return max(1, round(width * target / side)), max(1, round(height * target / side))

    def draft_size(self, width: int, height: int) -> tuple[int, int] | None:
        """The smallest size at which a JPEG may be decoded before its resize; None: its own.

        Scaling in the DCT domain saves time at a small loss of quality. So only images at least
        four times too large are decoded smaller, to at least twice the size, and then resized.
        """
        side, target = self._limit(width, height)
        if side < _DRAFT_FROM * target:
            return None
        scale = 2 * target / side
        return int(np.ceil(width * scale)), int(np.ceil(height * scale))

    def check_size(self, width: int, height: int) -> None:
        """Raise Unusable for an image that is too large, or that has no pixels."""
        if width * height > self.max_pixels:
            raise Unusable(
                f"image too large ({width} x {height} px; the limit is {self.max_pixels:,} pixels)"
            )
        if width * height == 0:
            raise Unusable("image without pixels")

    def _limit(self, width: int, height: int) -> tuple[int, int]:
        """(a side, the most that it may be): of both sides, the one with the tighter limit."""
        short, long = min(width, height), max(width, height)
        if self.short_side is None:
            return short, short
        longest = MAX_ASPECT * max(self.short_side, _LONG_SIDE_OF)
        if long * self.short_side > longest * short:
            return long, longest
        return short, self.short_side


@dataclass(frozen=True, slots=True)
class Decoded:
    """An RGB image: ``pixels`` are height * width * 4 bytes (R, G, B, unused), row by row.

    ``highest``: the highest level of an image of 16 bits of which nobody says the value of white;
    -1 of others.
    """

    height: int
    width: int
    pixels: bytes | memoryview
    highest: int = -1


def pack(pixels: npt.NDArray[np.uint8], orientation: int, spec: DecodeSpec) -> Decoded:
    """Pixels [H, W, 4] at the size at which they are kept, upright."""
    height, width = pixels.shape[:2]
    if orientation == UPRIGHT and spec.stored_size(width, height) == (width, height):
        return Decoded(height, width, pixels.data.cast("B"))
    image = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGBX", 0, 1)
    return finish(image, orientation, spec)


def finish(
    image: Image.Image, orientation: int, spec: DecodeSpec, *, wide_colors: bool = False
) -> Decoded:
    """A loaded image at the size at which it is kept, upright, as pixels.

    ``wide_colors``: its file has 16 bits of each color, as :func:`coview.data.rgb.check_mode` says.
    """
    is_assumed = is_white_assumed(image, spec.white) or (wide_colors and spec.white is None)
    image = turn_upright(to_rgb(image, spec.white), orientation)
    highest = int(np.asarray(image).max()) if is_assumed else -1
    size = spec.stored_size(*image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return Decoded(image.height, image.width, image.tobytes("raw", "RGBX"), highest)
