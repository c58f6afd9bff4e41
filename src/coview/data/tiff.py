"""TIFF: a file whose first directory has nothing but what the picture needs."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

from coview.data.listing import Unusable
from coview.data.orientation import TIFF_BYTE_ORDERS, UPRIGHT

_NEEDED = {
    254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322,
    323, 324, 325, 332, 334, 338, 339, 340, 341, 347, 529, 530, 531, 532,
}  # fmt: skip
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274
_SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 277, 338
_COLORS = {2: 3, 5: 4, 6: 3, 8: 3}  # RGB, CMYK, YCbCr, LAB; one of any other photometric
_ALPHA = {1, 2, 999}  # values of ExtraSamples; 999 is written by Corel Draw
_UNKNOWN_TYPE = 0  # readers skip such an entry
_MAX_COPIED = 1 << 28


class Tiff(TiffImageFile):
    """A TIFF image of which Pillow decodes the pixels and reads no EXIF."""

    def load_end(self) -> None:
        pass

    @property
    def orientation(self) -> int:
        with contextlib.suppress(Exception):  # whatever the tag holds
            return int(self.tag_v2.get(_ORIENTATION, UPRIGHT))
        return UPRIGHT

    def _setup(self) -> None:
        """Pillow's choice of the mode; it drops bands, or calls the file damaged."""
        _check_bands(self)
        try:
            super()._setup()
        except SyntaxError as error:
            if "pixel mode" not in str(error):
                raise
            bits = ", ".join(f"{each}" for each in self.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
            raise Unusable(f"pixels of {bits} bits of this kind are not supported") from error


def _check_bands(image: TiffImageFile) -> None:
    """Raise Unusable for an image with bands that are neither color nor transparency."""
    tags = image.tag_v2
    bands = tags.get(_SAMPLES_PER_PIXEL, 1)
    others = bands - _COLORS.get(tags.get(_PHOTOMETRIC, 0), 1)
    # A fourth band without a meaning is transparency to Pillow; it may be near infrared.
    extra = tags.get(_EXTRA_SAMPLES, ())
    if others > 1 or (others == 1 and not _ALPHA.issuperset(extra or (0,))):
        raise Unusable(
            f"{bands} bands, of which {others} {'is' if others == 1 else 'are'} not stated to be "
            "color or transparency: write the three bands that count as RGB"
        )


def open_tiff(stream: BinaryIO) -> Tiff:
    """The first image of a TIFF file, without the tags that its pixels do not need.

    Raises Unusable for bands that no RGB image has, such as near infrared.

    A file of more than 256 MB, such as a stack of images, is left as it is.
    """
    stream.seek(0)
    content = bytearray(stream.read(_MAX_COPIED))
    order = TIFF_BYTE_ORDERS.get(bytes(content[:4]))
    if order is None or len(content) == _MAX_COPIED:
        stream.seek(0)
        return Tiff(stream)
    with contextlib.suppress(struct.error):  # Pillow says what is wrong with the directory
        (start,) = struct.unpack_from(f"{order}L", content, 4)
        (entries,) = struct.unpack_from(f"{order}H", content, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            if struct.unpack_from(f"{order}H", content, entry)[0] not in _NEEDED:
                struct.pack_into(f"{order}H", content, entry + 2, _UNKNOWN_TYPE)
    return Tiff(io.BytesIO(content))
