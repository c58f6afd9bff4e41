"""The wire format of protocol buffers, as much as an index of TensorFlow needs.

Source: protobuf.dev/programming-guides/encoding. A message is a sequence of (field number, value).
"""

from __future__ import annotations

import struct

Fields = dict[int, list[int | bytes]]


def varint(content: bytes, place: int) -> tuple[int, int]:
    """(the number at ``place``, the place behind it): 7 bits a byte, the lowest first.

    >>> varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def fields(content: bytes) -> Fields:
    """The fields of a message by number; each has all its values. Raises ValueError, IndexError.

    >>> fields(bytes([0x08, 0x05, 0x12, 0x01, 0x61]))
    {1: [5], 2: [b'a']}
    """
    found: Fields = {}
    place = 0
    while place < len(content):
        tag, place = varint(content, place)
        value: int | bytes
        kind = tag & 7
        if kind == 0:
            value, place = varint(content, place)
        elif kind == 2:
            length, place = varint(content, place)
            if place + length > len(content):
                raise ValueError("a field is longer than its message")
            value, place = content[place : place + length], place + length
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            (value,) = struct.unpack("<Q" if kind == 1 else "<I", content[place : place + size])
            place += size
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def number(message: Fields, field: int) -> int:
    """The last value of a numeric field; 0 where it is absent."""
    value = message.get(field, [0])[-1]
    if isinstance(value, bytes):
        raise ValueError(f"field {field} is no number")
    return value


def every(message: Fields, field: int) -> list[bytes]:
    """All values of a field of messages or texts."""
    return [value for value in message.get(field, []) if isinstance(value, bytes)]


def data(message: Fields, field: int) -> bytes:
    """The last value of a field of a message or a text; b"" where it is absent."""
    values = every(message, field)
    return values[-1] if values else b""
