"""Encoded image -> RGB pixels, or the reason why not; never a picture with a gray rest.

The conversion of each kind of image:

    JPEG, PNG, WebP ... 8 bits    unchanged; gray, 1-bit and palette images are expanded to RGB
    alpha or a transparent color composed with white
    CMYK, YCbCr                   Pillow's conversion to RGB, without color profiles
    16-bit gray                   round(v / 257): the full range, rounded, never clipped
    12-bit gray TIFF              round(255 v / 4095): its declared range
    16-bit color                 v // 256, Pillow's reading: the full range, at most one level off
    32-bit integers and floats    rejected, unless ``white`` is the value that means white
    several frames                the first
    EXIF or TIFF orientation      applied
    anything else                 rejected, with the reason

A truncated image is rejected. So is a JPEG, WebP or AVIF that ends with zeros only (an interrupted
copy), and a truncated JPEG with an end marker. Pillow does not detect single wrong bits; the extra
``jpeg`` (simplejpeg, strict) detects most of them and is two to five times faster. Both call
libjpeg-turbo with its accurate DCT and smooth upsampling, so the pixels are the same. Pillow always
decodes images with an orientation or in CMYK.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from coview.core.errors import InvalidValue
from coview.core.paths import open_regular
from coview.data.listing import Content, Rejected

MAX_PIXELS = 178_956_970
"""Pillow's own hard limit, enough for the 108-megapixel cameras of telephones."""

_PLAIN = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_TRANSPARENT = {"LA": "RGBA", "PA": "RGBA", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_WIDE = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262
_DRAFT_FROM = 4
_JPEG_MAGIC = b"\xff\xd8\xff"
# A closed list: Pillow would also hand a file called .jpg to Ghostscript if it looked like EPS.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_ENTROPY_CODED = {"JPEG", "MPO", "WEBP", "AVIF"}
_EMPTY_END = bytes(64)
_MORE_DATA = bytes(range(1, 255))
_GIVE_WHITE = "give `white`, the value that means white, to open_images"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSpec:
    """How images are decoded.

    short_side: larger images are resized to it (antialiased bicubic), smaller ones stay unchanged;
    None resizes none. max_pixels: larger images are rejected by their header. white: the value that
    means white in images of more than 8 bits that do not declare it.
    """

    short_side: int | None = None
    max_pixels: int = MAX_PIXELS
    white: float | None = None

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise InvalidValue(f"`short_side` is {self.short_side}; expected at least 1 pixel.")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise InvalidValue(
                f"`max_pixels` is {self.max_pixels:,}; expected 1 to {MAX_PIXELS:,} "
                "(cut larger images into tiles first)."
            )
        if self.white is not None and not 0 < self.white < float("inf"):
            raise InvalidValue(
                f"`white` is {self.white}; expected a positive number, such as 4095."
            )


@dataclass(frozen=True, slots=True)
class Decoded:
    """An RGB image: ``pixels`` are height * width * 4 bytes (R, G, B, unused), row by row."""

    height: int
    width: int
    pixels: bytes | memoryview


class _Unusable(Exception):
    """The image cannot be represented faithfully in RGB; the message is the reason."""


def decode_image(content: Content, spec: DecodeSpec) -> Decoded | Rejected:
    """One image as RGB pixels, or Rejected with the reason. Call within :func:`strict_pillow`."""
    if isinstance(content, Rejected):
        return content
    try:
        return _decode_any(content, spec)
    except _Unusable as error:
        return Rejected(str(error))
    except UnidentifiedImageError:
        return Rejected("not an image, or of an unknown format")
    except Image.DecompressionBombError:
        return Rejected(f"image too large (more than {MAX_PIXELS:,} pixels)")
    except MemoryError:
        return Rejected("not enough memory to decode it")
    except OSError as error:
        return Rejected(error.strerror or f"truncated or damaged ({error})")
    except Exception as error:  # A decoder may raise anything on a damaged file.
        return Rejected(f"damaged ({type(error).__name__}: {error})")


@contextlib.contextmanager
def strict_pillow() -> Iterator[None]:
    """Let Pillow refuse truncated images and hide its warnings, for any setting of the caller."""
    previous = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = previous


def _decode_any(content: Any, spec: DecodeSpec) -> Decoded:
    if isinstance(content, np.ndarray):
        return _resize_and_pack(_image_from_array(content, spec), spec)
    if callable(content):
        with content() as image:
            _load_pixels(image, spec)
            return _resize_and_pack(_to_rgb(image, spec), spec)
    if isinstance(content, Path):
        with open_regular(content) as stream:
            return _decode_stream(stream, spec)
    return _decode_stream(io.BytesIO(content), spec)


def _decode_stream(stream: BinaryIO, spec: DecodeSpec) -> Decoded:
    start = stream.read(3)
    if not start:
        raise _Unusable("empty file")
    stream.seek(0)
    if start == _JPEG_MAGIC and is_available():
        if (decoded := _decode_with_simplejpeg(stream.read(), spec)) is not None:
            return decoded
        stream.seek(0)
    with Image.open(stream, formats=_known_formats()) as image:
        if image.format in _ENTROPY_CODED:
            _check_end(stream)
        _load_pixels(image, spec)
        if image.format == "JPEG":
            _check_corner(image, stream, spec)
        return _resize_and_pack(_to_rgb(image, spec), spec)


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_end(stream: BinaryIO) -> None:
    """Reject a file that has its full size but ends with zeros: the rest would be gray."""
    position = stream.tell()
    if stream.seek(0, io.SEEK_END) > len(_EMPTY_END):
        stream.seek(-len(_EMPTY_END), io.SEEK_END)
        if stream.read() == _EMPTY_END and not _is_padded_jpeg(stream):
            raise _Unusable("truncated: it ends with zeros")
    stream.seek(position)


def _check_corner(image: Image.Image, stream: BinaryIO, spec: DecodeSpec) -> None:
    """Reject a JPEG whose data end before its picture: libjpeg fills the rest with gray.

    A gray corner may be genuine. Then further data before the end marker change nothing. If data
    are missing, the decoder takes the further data for them, and the picture changes.
    """
    corner = image.crop((max(image.width - 8, 0), max(image.height - 8, 0), *image.size))
    bands = (band.getextrema() for band in corner.split())
    if any(extrema not in ((127, 127), (128, 128)) for extrema in bands):
        return
    stream.seek(0)
    head, marker, tail = stream.read().rpartition(b"\xff\xd9")
    with Image.open(io.BytesIO(head + _MORE_DATA + marker + tail), formats=("JPEG",)) as longer:
        _load_pixels(longer, spec)
        if longer.tobytes() != image.tobytes():
            raise _Unusable("truncated: the rest of the picture would be gray")


def _is_padded_jpeg(stream: BinaryIO) -> bool:
    """Whether the zeros follow the end marker, as some cameras write them."""
    stream.seek(0)
    return stream.read().rstrip(b"\x00").endswith(b"\xff\xd9")


def _decode_with_simplejpeg(content: bytes, spec: DecodeSpec) -> Decoded | None:
    size = _read_size(content)
    if size is None or _draft_size(*size, spec) is not None:
        return None
    _check_size(*size, spec)
    pixels = _decode_jpeg(content)
    if pixels is None:
        return None
    width, height = size
    if spec.short_side is None or min(size) <= spec.short_side:
        return Decoded(height, width, pixels.data.cast("B"))
    return _resize_and_pack(Image.frombuffer("RGB", size, pixels, "raw", "RGBX", 0, 1), spec)


@functools.cache
def is_available() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def _read_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG that needs decoding only; None if Pillow is needed."""
    import simplejpeg

    if b"Exif\x00\x00" in content or b"http://ns.adobe.com/xap/" in content:
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content, strict=True)
    except ValueError:
        return None
    return (width, height) if colorspace in ("YCbCr", "Gray", "RGB") else None


def _decode_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
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


def _resize_and_pack(image: Image.Image, spec: DecodeSpec) -> Decoded:
    image = _shrink(image, spec)
    return Decoded(image.height, image.width, image.tobytes("raw", "RGBX"))


def _check_size(width: int, height: int, spec: DecodeSpec) -> None:
    if width * height > spec.max_pixels:
        raise _Unusable(
            f"image too large ({width} x {height} px; the limit is {spec.max_pixels:,} pixels)"
        )
    if width * height == 0:
        raise _Unusable("image without pixels")


def _draft_size(width: int, height: int, spec: DecodeSpec) -> tuple[int, int] | None:
    """The smallest size at which a JPEG may be decoded before its resize; None for the full size.

    Scaling in the DCT domain saves time at a small loss of quality. So only images at least four
    times too large are decoded smaller, to at least twice the short side, and then resized.
    """
    short = min(width, height)
    if spec.short_side is None or short < _DRAFT_FROM * spec.short_side:
        return None
    scale = 2 * spec.short_side / short
    return int(np.ceil(width * scale)), int(np.ceil(height * scale))


def _shrink(image: Image.Image, spec: DecodeSpec) -> Image.Image:
    short = min(image.size)
    if spec.short_side is None or short <= spec.short_side:
        return image
    width, height = (max(1, round(side * spec.short_side / short)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _load_pixels(image: Image.Image, spec: DecodeSpec) -> None:
    """Decode a freshly opened image, at full or draft size."""
    _check_size(*image.size, spec)
    if image.mode not in _PLAIN | _TRANSPARENT.keys() | _WIDE:
        raise _Unusable(f"pixels of mode {image.mode} are not supported")
    draft = _draft_size(*image.size, spec)
    if draft is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, draft)
    image.load()


def _to_rgb(image: Image.Image, spec: DecodeSpec) -> Image.Image:
    """A loaded image, upright and in mode RGB."""
    # A picture with unreadable metadata is used, as upright.
    with contextlib.suppress(SyntaxError, struct.error):
        if image.getexif().get(_ORIENTATION, 1) != 1:
            ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _WIDE:
        return _image_from_array(
            _read_single_channel(image, spec), spec, white=_white_value(image, spec)
        )
    if image.has_transparency_data:
        return _compose_with_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _compose_with_white(image: Image.Image) -> Image.Image:
    straight = image.convert(_TRANSPARENT.get(image.mode, "RGBA")).convert("RGBA")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(straight)
    return canvas.convert("RGB")


def _read_single_channel(image: Image.Image, spec: DecodeSpec) -> npt.NDArray[Any]:
    """The values of a single channel of more than 8 bits, black lowest."""
    values = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero; Pillow leaves it so
        return _white_value(image, spec) - values.astype(np.float64)
    return values


def _white_value(image: Image.Image, spec: DecodeSpec) -> float:
    """The value that means white in an image of more than 8 bits per channel."""
    if spec.white is not None:
        return spec.white
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
        return float(2**bits - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 65535.0
    kind = "floating-point" if image.mode == "F" else "32-bit integer"
    raise _Unusable(f"{kind} pixels without a declared range; {_GIVE_WHITE}")


def _image_from_array(
    array: npt.NDArray[Any], spec: DecodeSpec, white: float | None = None
) -> Image.Image:
    """[H, W] or [H, W, 3] as an RGB image; anything but uint8 is scaled by 255 / white."""
    _check_size(array.shape[1], array.shape[0], spec)
    white = spec.white if white is None else white
    if array.dtype != np.uint8:
        array = _scale_to_uint8(array, white)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _scale_to_uint8(array: npt.NDArray[Any], white: float | None) -> npt.NDArray[np.uint8]:
    if white is None:
        raise _Unusable(f"{array.dtype} pixels without a declared range; {_GIVE_WHITE}")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= white):
        raise _Unusable(f"values from {low:g} to {high:g} lie outside 0 to white = {white:g}")
    return np.rint(array * (255.0 / white)).astype(np.uint8)
