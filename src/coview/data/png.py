"""PNG: what the picture needs of a file, and whether all of the picture is there."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from coview.core.images import OWN_PICTURE
from coview.data.listing import Unusable
from coview.data.orientation import UPRIGHT, exif_orientation, xmp_orientation

MAGIC = b"\x89PNG\r\n\x1a\n"
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_RATIO = 1032  # of deflate: 258 bytes from two bits
# Of the seven passes of an interlaced image: steps and first column and row.
_PASSES = (
    (8, 8, 0, 0), (8, 8, 4, 0), (4, 8, 0, 4), (4, 4, 2, 0), (2, 4, 0, 2), (2, 2, 1, 0),
    (1, 2, 0, 1),
)  # fmt: skip
_PIECE = 1 << 20
_OWN = "\0".join(OWN_PICTURE).encode()


@dataclass(slots=True)
class Png:
    """``content`` is the file with the chunks of its (first) picture alone, all checked.

    width, height in pixels; ``raw_bytes`` is the size of the uncompressed rows.
    """

    content: bytes
    width: int
    height: int
    orientation: int
    raw_bytes: int
    interlaced: bool
    data: list[bytes]

    @property
    def is_too_short(self) -> bool:
        """Whether the compressed data cannot hold all rows."""
        return sum(map(len, self.data)) * _MAX_RATIO < self.raw_bytes

    def check_rows(self) -> None:
        """Raise Unusable where the compressed data hold fewer rows than the header declares."""
        expand, length = zlib.decompressobj(), 0
        for part in self.data:
            while part and length < self.raw_bytes:
                length += len(expand.decompress(part, _PIECE))
                part = expand.unconsumed_tail
        if length < self.raw_bytes:
            raise Unusable("truncated: its last rows are missing")


def read_png(content: bytes) -> Png:
    """The chunks of a PNG file. Raises Unusable where one that the picture needs is damaged."""
    parts, data, orientation, position = [MAGIC], [], UPRIGHT, len(MAGIC)
    header = b""
    while True:
        head = content[position : position + 8]
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = position + 12 + length
        if len(head) < 8 or end > len(content):
            raise Unusable(
                "truncated: it has no end chunk"
                if header
                else "not an image, or of an unknown format"
            )
        body = content[position + 8 : end - 4]
        if kind == b"IEND":
            break
        if kind in _NEEDED:
            if zlib.crc32(kind + body) != int.from_bytes(content[end - 4 : end], "big"):
                raise Unusable(f"damaged: wrong checksum of the chunk {kind.decode()}")
            parts.append(content[position:end])
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            data.append(body)
        elif kind == b"tEXt" and body == _OWN:
            raise Unusable("a contact sheet that Coview has drawn")
        elif kind == b"eXIf":
            orientation = exif_orientation(body)
        elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\x00") and orientation == 1:
            orientation = xmp_orientation(body)
        position = end
    return _describe(header, data, parts, orientation)


def _describe(header: bytes, data: list[bytes], parts: list[bytes], orientation: int) -> Png:
    if len(header) != 13 or header[9] not in _CHANNELS:
        raise Unusable("damaged: no valid header")
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    pixel_bits = bits * _CHANNELS[color]
    passes = _PASSES if interlaced else ((1, 1, 0, 0),)
    raw_bytes = 0
    for across, down, left, top in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            raw_bytes += rows * (1 + -(-columns * pixel_bits // 8))
    parts.append(b"\x00\x00\x00\x00IEND\xaeB`\x82")
    return Png(
        content=b"".join(parts), width=width, height=height, orientation=orientation,
        raw_bytes=raw_bytes, interlaced=bool(interlaced), data=data,
    )  # fmt: skip
