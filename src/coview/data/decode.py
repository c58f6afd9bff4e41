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
import importlib.util
import io
import re
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from coview.core.errors import InvalidValue
from coview.core.paths import open_regular
from coview.core.text import plural
from coview.data.gif import check_gif, gif_size
from coview.data.jpeg import Jpeg, read_jpeg
from coview.data.kinds import kind_of_content
from coview.data.listing import Content, Rejected, Unusable
from coview.data.orientation import (
    UPRIGHT,
    exif_orientation,
    turn_upright,
    xmp_orientation,
)
from coview.data.png import MAGIC, Png, read_png
from coview.data.rgb import check_mode, rgb_from_array, to_rgb
from coview.data.tiff import Tiff, open_tiff
from coview.data.webp import read_webp
from coview.options import MAX_PIXELS as MAX_PIXELS

LARGEST_MAX_PIXELS = 178_956_970
"""The most that ``max_pixels`` may be: the pixels take 716 MB."""
MAX_ASPECT = 16
"""With a short side, no side is kept longer than this times it (or times 256, if that is more)."""
MAX_WORK = 16
"""Pixels that all scans of a JPEG may decode together, in multiples of ``max_pixels``."""

_DRAFT_FROM = 4
_LONG_SIDE_OF = 256
_JPEG_MAGIC = b"\xff\xd8\xff"
# A closed list: Pillow would also hand a file called .jpg to Ghostscript if it looked like EPS.
_FORMATS = ("WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")
_MATTERS = re.compile(rb"\xff[\xda\xc2\xe1]")  # a scan, a progressive frame, EXIF or XMP
_COMPONENTS = {"Gray": 1, "YCbCr": 3, "RGB": 3}
_EMPTY_END = bytes(64)
# With every restart marker, since a decoder that expects one skips what comes before it.
_MORE_DATA = b"".join(b"\xaa" * 64 + bytes([0xFF, marker]) for marker in range(0xD0, 0xD8))
_SMALL = 64 * 64
_MAX_FILE_BYTES = 8 * LARGEST_MAX_PIXELS


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
    """An RGB image: ``pixels`` are height * width * 4 bytes (R, G, B, unused), row by row."""

    height: int
    width: int
    pixels: bytes | memoryview


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
        _check_size(content.shape[1], content.shape[0], spec)
        return _finish(rgb_from_array(content, spec.white), UPRIGHT, spec)
    if callable(content):
        with content() as image:
            _check_size(image.width, image.height, spec)
            check_mode(image)
            image.load()
            return _finish(image, _orientation_of(image), spec)
    if isinstance(content, Path):
        with open_regular(content) as stream:
            return _decode_stream(stream, spec)
    return _decode_stream(io.BytesIO(content), spec)


def _decode_stream(stream: BinaryIO, spec: DecodeSpec) -> Decoded:
    start = stream.read(len(MAGIC))
    if not start:
        raise Unusable("empty file")
    if start.startswith(_JPEG_MAGIC):
        content = start + stream.read(_MAX_FILE_BYTES)
        decoded = _decode_plain_jpeg(content, spec) if is_available() else None
        return decoded or _decode_jpeg(read_jpeg(content), spec)
    if start == MAGIC:
        return _decode_png(read_png(start + stream.read(_MAX_FILE_BYTES)), spec)
    if start[:4] == b"RIFF":
        _check_size(*read_webp(start + stream.read(_MAX_FILE_BYTES)), spec)
    content = b""
    if start[:3] == b"GIF":
        content = start + stream.read(_MAX_FILE_BYTES)
        _check_size(*gif_size(content), spec)
    stream.seek(0)
    is_tiff = start[:2] in (b"II", b"MM")
    with open_tiff(stream) if is_tiff else Image.open(stream, formats=_known_formats()) as image:
        if image.format == "AVIF":
            _check_end(stream)
        _check_size(*image.size, spec)
        check_mode(image)
        image.load()
        if image.format == "GIF":
            check_gif(image, content)
        orientation = image.orientation if isinstance(image, Tiff) else _orientation_of(image)
        return _finish(image, orientation, spec)


def _orientation_of(image: Image.Image) -> int:
    """The orientation in the metadata that Pillow found, unread."""
    exif, xmp = (image.info.get(key) for key in ("exif", "xmp"))
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else UPRIGHT
    if orientation == UPRIGHT and isinstance(xmp, bytes):
        return xmp_orientation(xmp)
    return orientation


def _decode_plain_jpeg(content: bytes, spec: DecodeSpec) -> Decoded | None:
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
    _check_size(width, height, spec)
    if 8 * len(content) < (height // 8) * (width // 8):
        return None
    pixels = _decode_with_simplejpeg(content)
    return None if pixels is None else _pack(pixels, UPRIGHT, spec)


def _pack(pixels: npt.NDArray[np.uint8], orientation: int, spec: DecodeSpec) -> Decoded:
    """Pixels [H, W, 4] at the size at which they are kept, upright."""
    height, width = pixels.shape[:2]
    if orientation == UPRIGHT and spec.stored_size(width, height) == (width, height):
        return Decoded(height, width, pixels.data.cast("B"))
    image = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGBX", 0, 1)
    return _finish(image, orientation, spec)


def _decode_jpeg(jpeg: Jpeg, spec: DecodeSpec) -> Decoded:
    width, height = size = jpeg.width, jpeg.height
    scans = len(jpeg.scan_ends)
    scale = _draft_scale(size, spec)
    # Of several scans a decoder keeps the coefficients of the whole picture.
    kept = 1 if scans > 1 else scale
    _check_size(-(-width // kept), -(-height // kept), spec)
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
            return _pack(pixels, jpeg.orientation, spec)
    image = _load_jpeg(jpeg, jpeg.content, scale)
    if scans > 1 or _ends_gray(image) or _ends_early(jpeg):
        # If the scans are whole, further data at their ends change nothing. If data are missing,
        # the decoder takes the further data for them, and the picture changes.
        longer = _load_jpeg(jpeg, jpeg.with_more_data(_MORE_DATA), scale)
        if longer.tobytes() != image.tobytes():
            raise Unusable("truncated: the rest of the picture would be gray")
    return _finish(image, jpeg.orientation, spec)


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


def decoders() -> str:
    """The libraries that decode images here; another version may give other pixels.

    >>> decoders().split()[0]
    'Pillow'
    """
    names = ("Pillow", "simplejpeg") if is_available() else ("Pillow",)
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _decode_png(png: Png, spec: DecodeSpec) -> Decoded:
    _check_size(png.width, png.height, spec)
    if png.is_too_short:
        raise Unusable(f"truncated: too short for {png.width} x {png.height} px")
    image = PngImageFile(io.BytesIO(png.content))
    check_mode(image)
    image.load()
    # Pillow leaves missing rows black. In an interlaced image they may lie between others.
    last = image.crop((0, image.height - 1, *image.size))
    if png.interlaced or last.getbbox(alpha_only=False) is None:
        png.check_rows()
    return _finish(image, png.orientation, spec)


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


def _check_size(width: int, height: int, spec: DecodeSpec) -> None:
    if width * height > spec.max_pixels:
        raise Unusable(
            f"image too large ({width} x {height} px; the limit is {spec.max_pixels:,} pixels)"
        )
    if width * height == 0:
        raise Unusable("image without pixels")


def _finish(image: Image.Image, orientation: int, spec: DecodeSpec) -> Decoded:
    """A loaded image at the size at which it is kept, upright, as pixels."""
    image = turn_upright(to_rgb(image, spec.white), orientation)
    size = spec.stored_size(*image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return Decoded(image.height, image.width, image.tobytes("raw", "RGBX"))
