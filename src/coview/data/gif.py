"""GIF: whether all rows of the first frame are there. The format has no checksum."""

from __future__ import annotations

import struct

from PIL import Image

from coview.data.listing import Unusable

_EXTENSION, _IMAGE = 0x21, 0x2C
_TABLE_SIZE = 4096


def gif_size(content: bytes) -> tuple[int, int]:
    """(width, height) of the canvas with the first frame, before a decoder takes memory for it."""
    canvas = struct.unpack_from("<HH", content, 6)
    _, (left, top, width, height) = _first_frame(content)
    return max(canvas[0], left + width), max(canvas[1], top + height)


def check_gif(image: Image.Image, content: bytes) -> None:
    """Raise Unusable where the loaded first frame of a GIF lacks rows, which Pillow leaves empty.

    Only a frame with an empty end is read again, because that takes longer than decoding it.
    """
    position, (left, top, width, height) = _first_frame(content)
    # In an interlaced frame the last row to arrive may be the last but one.
    end = image.crop((left, max(top, top + height - 2), left + width, top + height))
    if end.getcolors(1) is None:
        return
    position = _after_table(content, position + 9, position + 10)
    data, _ = _blocks(content, position + 1)
    if _count_pixels(data, content[position]) < width * height:
        raise Unusable("truncated: its last rows are missing")


def _first_frame(content: bytes) -> tuple[int, tuple[int, ...]]:
    """Where the first frame begins, and its (left, top, width, height)."""
    try:
        position = _after_table(content, 10, 13)
        while content[position] == _EXTENSION:
            _, position = _blocks(content, position + 2)
        if content[position] != _IMAGE:
            raise Unusable("damaged: no picture where one should begin")
        return position, struct.unpack_from("<HHHH", content, position + 1)
    except (IndexError, struct.error) as error:
        raise Unusable("truncated: no picture begins") from error


def _after_table(content: bytes, flags: int, start: int) -> int:
    """The position behind the color table that the byte at ``flags`` announces, if any."""
    return start + (3 << (content[flags] & 7) + 1 if content[flags] & 0x80 else 0)


def _blocks(content: bytes, position: int) -> tuple[bytes, int]:
    """The joined data blocks from ``position`` on, and the position behind them."""
    parts = []
    while length := content[position]:
        parts.append(content[position + 1 : position + 1 + length])
        position += 1 + length
    return b"".join(parts), position + 1


def _count_pixels(data: bytes, bits: int) -> int:
    """The number of pixels in LZW data: only the length of every string is kept."""
    clear = 1 << bits
    first = [1] * clear + [0, 0]
    lengths, width, pixels, previous = first.copy(), bits + 1, 0, 0
    buffer = held = 0
    for byte in data:
        buffer |= byte << held
        held += 8
        while held >= width:
            code = buffer & ((1 << width) - 1)
            buffer >>= width
            held -= width
            if code == clear:
                lengths, width, previous = first.copy(), bits + 1, 0
                continue
            if code == clear + 1:
                return pixels
            length = lengths[code] if code < len(lengths) else previous + 1
            if previous and len(lengths) < _TABLE_SIZE:
                lengths.append(previous + 1)
                if len(lengths) == 1 << width and width < 12:
                    width += 1
            pixels += length
            previous = length
    return pixels
