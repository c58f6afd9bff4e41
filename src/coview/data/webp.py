"""WebP: the size of the picture, before a decoder takes memory for it, and the end of its data."""

from __future__ import annotations

import struct

from coview.data.listing import Unusable

_EMPTY_END = bytes(32)


def read_webp(content: bytes) -> tuple[int, int]:
    """(width, height) of a WebP file.

    Raises Unusable where the data of the first picture are cut, or end with zeros as those of an
    interrupted copy do: a decoder takes both for a picture.
    """
    size, position = None, 12
    while position + 8 <= len(content):
        kind, length = (
            content[position : position + 4],
            int.from_bytes(content[position + 4 : position + 8], "little"),
        )
        body = content[position + 8 : position + 8 + length]
        size = size or _read_size(kind, body)
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            if len(body) < length:
                raise Unusable("truncated: its picture data are cut")
            if body.endswith(_EMPTY_END):
                raise Unusable("truncated: it ends with zeros")
            break
        position += 8 + length + length % 2
    if size is None or content[8:12] != b"WEBP":
        raise Unusable("not an image, or of an unknown format")
    return size


def _read_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(body) >= 10:
        wide, high = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return wide, high
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10:
        wide, high = struct.unpack("<HH", body[6:10])
        return wide & 0x3FFF, high & 0x3FFF
    return None
