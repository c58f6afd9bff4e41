"""The orientation of a picture from its metadata: 1 (upright) to 8, the numbers of EXIF.

Everything else in the metadata is left alone: most files in which a tag is wrong are good pictures.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

UPRIGHT = 1
_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}
TIFF_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
_IN_XMP = re.compile(rb"tiff:Orientation(?:=\"|=')?>?([1-8])")

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` as it is meant to be seen.

    >>> turn_upright(Image.new("L", (3, 2)), 6).size
    (2, 3)
    """
    return image.transpose(_TRANSPOSED[orientation]) if orientation in _TRANSPOSED else image


def exif_orientation(block: bytes) -> int:
    """The orientation that an EXIF block declares, with or without the word Exif before it.

    >>> exif_orientation(b"MM\\0*\\0\\0\\0\\x08\\0\\1\\1\\x12\\0\\3\\0\\0\\0\\1\\0\\x06\\0\\0")
    6
    >>> exif_orientation(b"no EXIF")
    1
    """
    block = block.removeprefix(b"Exif\x00\x00")
    order = TIFF_BYTE_ORDERS.get(block[:4])
    if order is None or len(block) < 10:
        return UPRIGHT
    (start,) = struct.unpack_from(f"{order}L", block, 4)
    for entry in range(start + 2, len(block) - 11, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHL", block, entry)
        if tag == _ORIENTATION and kind in _INTEGERS and number == 1:
            value = struct.unpack_from(f"{order}{_INTEGERS[kind]}", block, entry + 8)[0]
            return int(value) if value in _TRANSPOSED else UPRIGHT
        if entry + 12 >= start + 2 + 12 * struct.unpack_from(f"{order}H", block, start)[0]:
            break
    return UPRIGHT


def xmp_orientation(packet: bytes) -> int:
    """The orientation in an XMP packet, which Pillow and others read where EXIF has none.

    >>> xmp_orientation(b'<rdf:Description tiff:Orientation="8"/>')
    8
    """
    match = _IN_XMP.search(packet)
    return UPRIGHT if match is None else int(match[1])
