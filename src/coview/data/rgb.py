"""An opened image, or an array -> RGB with 8 bits, or Unusable."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from coview.data.listing import Unusable

_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_TRANSPARENT = {"LA": "RGBA", "PA": "RGBA", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_WIDE = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_LARGEST = 65535.0
MAX_DARK = 64
"""The gray level, of 255, that images of 16 bits do not exceed which use 14 or fewer of them."""
REWRITE_COLORS = "write images in color with 8 bits, or over all 16 bits"
"""What to do about images in color that use fewer bits: ``white`` is of a single channel."""
_GIVE_WHITE = "give `white`, the value that means white, to open_images"


def check_mode(image: Image.Image, white: float | None) -> bool:
    """Whether a PNG or TIFF that is not loaded yet has color or transparency of 16 bits.

    Pillow keeps their high bytes, so that 65,535 is white. Raises Unusable where ``white`` is
    another value, and for an image whose kind of pixels has no faithful RGB.
    """
    if image.mode not in _PLAIN | _TRANSPARENT.keys() | _WIDE:
        raise Unusable(f"pixels of mode {image.mode} are not supported")
    if image.mode in _WIDE or image.format not in ("PNG", "TIFF"):
        return False
    # Pillow's name of the pixels in the file, as RGB;16B; an image that is loaded has no tiles.
    has_wide_colors = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if has_wide_colors and white not in (None, _LARGEST):
        raise Unusable(
            f"colors of 16 bits are read with 65,535 as white, and `white` is {white:g}; "
            f"{REWRITE_COLORS}"
        )
    return has_wide_colors


def to_rgb(image: Image.Image, white: float | None) -> Image.Image:
    """A loaded image in mode RGB. ``white``: see DecodeSpec."""
    if image.mode in _WIDE:
        return rgb_from_array(_read_single_channel(image, white), _white_value(image, white))
    if image.has_transparency_data:
        return _compose_with_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def rgb_from_array(array: npt.NDArray[Any], white: float | None) -> Image.Image:
    """[H, W] or [H, W, 3] as an RGB image; anything but uint8 is scaled by 255 / white."""
    if array.dtype != np.uint8:
        array = _scale_to_uint8(array, white)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def is_white_assumed(image: Image.Image, white: float | None) -> bool:
    """Whether 65,535 is taken for white because nobody says it: values often use fewer bits.

    A PNG or a JPEG 2000 cannot say it, and a TIFF seldom does; PPM does.
    """
    if white is not None:
        return False
    if image.mode.startswith("I;16"):
        return _bits(image) == 16
    return image.mode == "I" and image.format == "PNG"


def likely_white(level: int) -> int:
    """The value that probably means white where 65,535 was taken for it and no image exceeds gray
    level ``level``: the largest of so many bits.

    >>> likely_white(4), likely_white(16), likely_white(64)
    (1023, 4095, 16383)
    """
    whites = [(1 << bits) - 1 for bits in range(8, 17)]
    return next(white for white in whites if round(white * 255 / _LARGEST) >= level)


def _bits(image: Image.Image) -> int:
    """The bits of a value of a single-channel image that a TIFF declares; 16 of others."""
    return int(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0])


def _compose_with_white(image: Image.Image) -> Image.Image:
    straight = image.convert(_TRANSPARENT.get(image.mode, "RGBA")).convert("RGBA")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(straight)
    return canvas.convert("RGB")


def _read_single_channel(image: Image.Image, white: float | None) -> npt.NDArray[Any]:
    """The values of a single channel of more than 8 bits, black lowest."""
    values = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero; Pillow leaves it so
        return _white_value(image, white) - values.astype(np.float64)
    return values


def _white_value(image: Image.Image, white: float | None) -> float:
    """The value that means white in an image of more than 8 bits per channel."""
    if white is not None:
        return white
    if image.mode.startswith("I;16"):
        return float(2 ** _bits(image) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return _LARGEST
    kind = "floating-point" if image.mode == "F" else "32-bit integer"
    raise Unusable(f"{kind} pixels without a declared range; {_GIVE_WHITE}")


def _scale_to_uint8(array: npt.NDArray[Any], white: float | None) -> npt.NDArray[np.uint8]:
    if white is None:
        raise Unusable(f"{array.dtype} pixels without a declared range; {_GIVE_WHITE}")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= white):
        raise Unusable(f"values from {low:g} to {high:g} lie outside 0 to white = {white:g}")
    return np.rint(array * (255.0 / white)).astype(np.uint8)
