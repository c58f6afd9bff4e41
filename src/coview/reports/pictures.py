"""Pixels as data URIs: single images and one sheet of thumbnails for the map."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

MAX_PNG_BYTES = 1_500_000


def image_uri(pixels: Pixels, *, quality: int = 90) -> str:
    """uint8 [H, W, 3] as a JPEG data URI."""
    return data_uri(encode_jpeg(pixels, quality=quality), "image/jpeg")


def encode_jpeg(pixels: Pixels, *, quality: int = 85) -> bytes:
    """uint8 [H, W, 3] as JPEG."""
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    picture.save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def shrink(pixels: Pixels, side: int, *, enlarge: bool = False) -> Pixels:
    """The image with its longer side at ``side`` pixels; a smaller one keeps its size, or is
    enlarged to it.

    >>> shrink(np.zeros((40, 20, 3), np.uint8), 10).shape
    (10, 5, 3)
    >>> image = np.zeros((4, 2, 3), np.uint8)
    >>> shrink(image, 10).shape, shrink(image, 10, enlarge=True).shape
    ((4, 2, 3), (10, 5, 3))
    """
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(picture.size)
    if scale < 1:
        picture.thumbnail((side, side), reducing_gap=2.0)
    elif enlarge:
        # A few pixels are shown as what they are.
        method = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR
        width, height = (max(1, round(each * scale)) for each in picture.size)
        picture = picture.resize((width, height), method)
    return np.asarray(picture)


def picture_uri(content: bytes) -> tuple[str, int, int] | None:
    """A PNG file as (data URI, width, height); None where it is not a PNG.

    Pictures above 1.5 MB are written again as JPEG, so that the report stays small.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
            width, height = picture.size
            pixels: npt.NDArray[Any] = np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if len(content) <= MAX_PNG_BYTES:
        return data_uri(content, "image/png"), width, height
    return image_uri(pixels, quality=85), width, height


def data_uri(content: bytes, kind: str) -> str:
    """The bytes as a base64 data URI.

    >>> data_uri(b"hi", "text/plain")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
