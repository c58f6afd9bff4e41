"""JPEG -> RGB pixels: by simplejpeg where it is installed, else by Pillow's libjpeg."""

from __future__ import annotations

import functools
import importlib.util
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from coview.core.text import plural
from coview.data.decode_spec import Decoded, DecodeSpec, finish, pack
from coview.data.jpeg import Jpeg, read_jpeg
from coview.data.listing import Unusable
from coview.data.orientation import UPRIGHT

MAX_WORK = 16
"""Pixels that all scans of a JPEG may decode together, in multiples of ``max_pixels``."""

_MATTERS = re.compile(rb"\xff[\xda\xc2\xe1]")  # a scan, a progressive frame, EXIF or XMP
_COMPONENTS = {"Gray": 1, "YCbCr": 3, "RGB": 3}
# With every restart marker, since a decoder that expects one skips what comes before it.
_MORE_DATA = b"".join(b"\xaa" * 64 + bytes([0xFF, marker]) for marker in range(0xD0, 0xD8))
_SMALL = 64 * 64


def decode_jpeg(content: bytes, spec: DecodeSpec) -> Decoded:
    """A JPEG file. Raises Unusable, and the errors of the decoders."""
    decoded = _decode_plain(content, spec) if is_available() else None
    return decoded or _decode_whole(read_jpeg(content), spec)


def _decode_plain(content: bytes, spec: DecodeSpec) -> Decoded | None:
    """The quick way, with simplejpeg, for a JPEG of one scan with neither EXIF nor XMP; else None.

    simplejpeg finds out by itself whether the one scan is whole.
    """
    import simplejpeg

    if _MATTERS.findall(content) != [b"\xff\xda"]:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    except ValueError:
        return None
    whole = _COMPONENTS.get(colors) == content[content.index(b"\xff\xda") + 4]
    if not whole or spec.draft_size(width, height) is not None:
        return None
    spec.check_size(width, height)
    if 8 * len(content) < (height // 8) * (width // 8):
        return None
    pixels = _decode_with_simplejpeg(content)
    return None if pixels is None else pack(pixels, UPRIGHT, spec)


def _decode_whole(jpeg: Jpeg, spec: DecodeSpec) -> Decoded:
    width, height = size = jpeg.width, jpeg.height
    scans = len(jpeg.scan_ends)
    scale = _draft_scale(size, spec)
    # Of several scans a decoder keeps the coefficients of the whole picture.
    kept = 1 if scans > 1 else scale
    spec.check_size(-(-width // kept), -(-height // kept))
    if width * height * scans > MAX_WORK * spec.max_pixels:
        raise Unusable(
            f"too slow to decode ({plural(scans, 'scan')} of {width} x {height} px; the limit is "
            f"{MAX_WORK * spec.max_pixels:,} pixels in all scans)"
        )
    if jpeg.is_too_short:
        raise Unusable(f"truncated: too short for {width} x {height} px")
    if not jpeg.is_complete:
        raise Unusable("truncated: scans are missing")
    if scale == 1 and jpeg.mode != "CMYK" and is_available():
        pixels = _decode_with_simplejpeg(jpeg.content)
        if pixels is not None:
            return pack(pixels, jpeg.orientation, spec)
    image = _load_jpeg(jpeg, jpeg.content, scale)
    if scans > 1 or _ends_gray(image) or _ends_early(jpeg):
        # If the scans are whole, further data at their ends change nothing. If data are missing,
        # the decoder takes the further data for them, and the picture changes.
        longer = _load_jpeg(jpeg, jpeg.with_more_data(_MORE_DATA), scale)
        if longer.tobytes() != image.tobytes():
            raise Unusable("truncated: the rest of the picture would be gray")
    return finish(image, jpeg.orientation, spec)


def _draft_scale(size: tuple[int, int], spec: DecodeSpec) -> int:
    """What libjpeg divides the sides by while it decodes: 1, 2, 4 or 8."""
    draft = spec.draft_size(*size)
    if draft is None:
        return 1
    most = min(side // small for side, small in zip(size, draft, strict=True))
    return next(scale for scale in (8, 4, 2, 1) if scale <= most)


def _load_jpeg(jpeg: Jpeg, content: bytes, scale: int) -> Image.Image:
    """Decoded by Pillow's libjpeg; its header is read already, without the metadata."""
    size = -(-jpeg.width // scale), -(-jpeg.height // scale)
    stored = "CMYK;I" if jpeg.mode == "CMYK" else jpeg.mode
    try:
        return Image.frombytes(jpeg.mode, size, content, "jpeg", stored, "", scale, 0)
    except ValueError as error:
        raise Unusable(f"truncated or damaged ({error})") from error


def _ends_gray(image: Image.Image) -> bool:
    """Whether the last pixel is as gray as libjpeg makes the rest of a picture without data.

    Only in brightness: the color of a missing block is mixed with that of its neighbor.
    """
    pixel: Any = image.getpixel((image.width - 1, image.height - 1))
    if image.mode == "RGB":
        pixel = (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) // 1000
    elif image.mode == "CMYK":
        pixel = pixel[3]
    return 126 <= int(pixel) <= 130


def _ends_early(jpeg: Jpeg) -> bool:
    """Whether the last block of a small picture, which is much of it, may be cut.

    Encoders fill the last byte with ones: it ends with a zero in 6 % of the whole files and in half
    of the cut ones.
    """
    return jpeg.width * jpeg.height <= _SMALL and jpeg.content[-3] & 1 == 0


def _decode_with_simplejpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """The pixels, uint8 [H, W, 4] (R, G, B, unused); None if Pillow is needed.

    Raises OSError, as Pillow does, if libjpeg detects missing or wrong picture data.
    """
    import simplejpeg

    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, colorspace="RGBX", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError as error:
        # Extraneous bytes between two segments are common and harmless.
        if "extraneous bytes" in str(error):
            return None
        raise OSError(str(error)) from error
    return pixels


@functools.cache
def is_available() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None
