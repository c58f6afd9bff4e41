"""TIFF: a file whose first directory has nothing but what the picture needs."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

from coview.data.orientation import TIFF_BYTE_ORDERS, UPRIGHT

_NEEDED = {
    254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322,
    323, 324, 325, 332, 334, 338, 339, 340, 341, 347, 529, 530, 531, 532,
}  # fmt: skip
_ORIENTATION = 274
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


def open_tiff(stream: BinaryIO) -> Tiff:
    """The first image of a TIFF file, without the tags that its pixels do not need.

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
