"""Encoded image -> RGB pixels, or the reason why not; never a picture with a gray rest.

The conversion of each kind of image:

    JPEG, PNG, WebP ... 8 bits    unchanged; gray, 1-bit and palette images are expanded to RGB
    alpha or a transparent color composed with white
    CMYK, YCbCr                   Pillow's conversion to RGB, without color profiles
    16-bit gray                   round(v / 257): the full range, rounded, never clipped
    12-bit gray TIFF              round(255 v / 4095): its declared range
    16-bit color                 v // 256, Pillow's reading: the full range, at most one level off;
                                  rejected where ``white`` is another value than 65,535
    32-bit integers and floats    rejected, unless ``white`` is the value that means white
    further bands of a TIFF       rejected: no choice of three is right for all data
    several frames                the first
    EXIF, XMP or TIFF orientation applied
    anything else                 rejected, with the reason

No other metadata is read. docs/images.md says which damage is found in each format, which limits an
image has, and how often damage stays unseen. The extra ``jpeg`` (simplejpeg, strict) finds more of
it in JPEG and is two to five times faster. Both call libjpeg-turbo with its accurate DCT and smooth
upsampling, so the pixels are the same. Pillow always decodes CMYK.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from coview.core.paths import open_regular
from coview.data.decode_jpeg import decode_jpeg, is_available
from coview.data.decode_spec import LARGEST_MAX_PIXELS, Decoded, DecodeSpec, finish
from coview.data.gif import check_gif, gif_size
from coview.data.kinds import kind_of_content
from coview.data.listing import Content, Rejected, Unusable
from coview.data.orientation import (
    UPRIGHT,
    exif_orientation,
    xmp_orientation,
)
from coview.data.png import MAGIC, Png, read_png
from coview.data.rgb import check_mode, rgb_from_array
from coview.data.tiff import Tiff, open_tiff
from coview.data.webp import read_webp

_JPEG_MAGIC = b"\xff\xd8\xff"
# A closed list: Pillow would also hand a file called .jpg to Ghostscript if it looked like EPS.
_FORMATS = ("WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
_EMPTY_END = bytes(64)
_MAX_FILE_BYTES = 8 * LARGEST_MAX_PIXELS


def decode_image(content: Content, spec: DecodeSpec) -> Decoded | Rejected:
    """One image as RGB pixels, or Rejected with the reason. Call within :func:`strict_pillow`."""
    if isinstance(content, Rejected):
        return content
    try:
        return _decode_any(content, spec)
    except Unusable as error:
        return Rejected(str(error))
    except UnidentifiedImageError:
        return Rejected(kind_of_content(_first_bytes(content)))
    except SyntaxError as error:  # of Pillow's readers
        return Rejected(f"damaged ({error})")
    except MemoryError:
        return Rejected("not enough memory to decode it")
    except OSError as error:
        if error.strerror:
            return Rejected(error.strerror, may_pass=error.errno is not None)
        return Rejected(f"truncated or damaged ({error})")
    except Exception as error:  # A decoder may raise anything on a damaged file.
        return Rejected(f"damaged ({type(error).__name__}: {error})")


def _first_bytes(content: Content) -> bytes:
    if isinstance(content, Path):
        with contextlib.suppress(OSError), open_regular(content) as stream:
            return stream.read(16)
    return content[:16] if isinstance(content, bytes) else b""


class _StrictPillow:
    """Settings of Pillow that are global, for as long as any thread decodes."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._previous = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
                self._previous.callback(self._set, *before)
                self._set(False, None)
                self._previous.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._previous.close()

    @staticmethod
    def _set(lenient: bool, limit: int | None) -> None:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = lenient, limit


_strict_pillow = _StrictPillow()


def strict_pillow() -> contextlib.AbstractContextManager[None]:
    """Let Pillow refuse truncated images and hide its warnings, for any setting of the caller.

    Its limit of pixels is off: images are judged here, by the size at which they are decoded.
    """
    return _strict_pillow


def _decode_any(content: Any, spec: DecodeSpec) -> Decoded:
    if isinstance(content, np.ndarray):
        spec.check_size(content.shape[1], content.shape[0])
        return finish(rgb_from_array(content, spec.white), UPRIGHT, spec)
    if callable(content):
        with content() as image:
            spec.check_size(image.width, image.height)
            wide_colors = check_mode(image, spec.white)
            image.load()
            return finish(image, _orientation_of(image), spec, wide_colors=wide_colors)
    if isinstance(content, Path):
        with open_regular(content) as stream:
            return _decode_stream(stream, spec)
    return _decode_stream(io.BytesIO(content), spec)


def _decode_stream(stream: BinaryIO, spec: DecodeSpec) -> Decoded:
    start = stream.read(len(MAGIC))
    if not start:
        raise Unusable("empty file")
    if start.startswith(_JPEG_MAGIC):
        return decode_jpeg(start + stream.read(_MAX_FILE_BYTES), spec)
    if start == MAGIC:
        return _decode_png(read_png(start + stream.read(_MAX_FILE_BYTES)), spec)
    if start[:4] == b"RIFF":
        spec.check_size(*read_webp(start + stream.read(_MAX_FILE_BYTES)))
    content = b""
    if start[:3] == b"GIF":
        content = start + stream.read(_MAX_FILE_BYTES)
        spec.check_size(*gif_size(content))
    stream.seek(0)
    is_tiff = start[:2] in (b"II", b"MM")
    with open_tiff(stream) if is_tiff else Image.open(stream, formats=_known_formats()) as image:
        if image.format == "AVIF":
            _check_end(stream)
        spec.check_size(*image.size)
        wide_colors = check_mode(image, spec.white)
        image.load()
        if image.format == "GIF":
            check_gif(image, content)
        orientation = image.orientation if isinstance(image, Tiff) else _orientation_of(image)
        return finish(image, orientation, spec, wide_colors=wide_colors)


def _orientation_of(image: Image.Image) -> int:
    """The orientation in the metadata that Pillow found, unread."""
    exif, xmp = (image.info.get(key) for key in ("exif", "xmp"))
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else UPRIGHT
    if orientation == UPRIGHT and isinstance(xmp, bytes):
        return xmp_orientation(xmp)
    return orientation


def decoders() -> str:
    """The libraries that decode images here; another version may give other pixels.

    >>> decoders().split()[0]
    'Pillow'
    """
    names = ("Pillow", "simplejpeg") if is_available() else ("Pillow",)
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _decode_png(png: Png, spec: DecodeSpec) -> Decoded:
    spec.check_size(png.width, png.height)
    if png.is_too_short:
        raise Unusable(f"truncated: too short for {png.width} x {png.height} px")
    image = PngImageFile(io.BytesIO(png.content))
    wide_colors = check_mode(image, spec.white)
    image.load()
    # Pillow leaves missing rows black. In an interlaced image they may lie between others.
    last = image.crop((0, image.height - 1, *image.size))
    if png.interlaced or last.getbbox(alpha_only=False) is None:
        png.check_rows()
    return finish(image, png.orientation, spec, wide_colors=wide_colors)


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_end(stream: BinaryIO) -> None:
    """Reject a file that has its full size but ends with zeros: the rest would be gray."""
    if stream.seek(0, io.SEEK_END) > len(_EMPTY_END):
        stream.seek(-len(_EMPTY_END), io.SEEK_END)
        if stream.read() == _EMPTY_END:
            raise Unusable("truncated: it ends with zeros")
