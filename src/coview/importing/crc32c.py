"""CRC-32C (Castagnoli), by which TensorFlow's files check their blocks and tensors.

The reflected polynomial 0x82F63B78 of RFC 3720, appendix B.4. Long content is cut into parts of
equal length whose remainders are computed side by side, byte by byte, and then joined: appending n
zero bytes is a linear map of the remainder, a matrix of 32 x 32 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78
MASK_DELTA = 0xA282EAD8
PARTS = 4096
"""Of long content; a vector of this length is quick to step, and joining the parts is cheap."""
SHORT = 1 << 16


def _table() -> Words:
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd: Words = np.bitwise_and(table, np.uint32(1))
        table = np.bitwise_xor(table >> np.uint32(1), odd * np.uint32(POLYNOMIAL))
    return table


TABLE = _table()


def crc32c(content: bytes | memoryview) -> int:
    """The CRC-32C of ``content``.

    >>> hex(crc32c(b"123456789")), hex(crc32c(bytes(32)))
    ('0xe3069283', '0x8a9136aa')
    """
    values: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
    length = len(values) // PARTS if len(values) > SHORT else 0
    remainder = 0xFFFFFFFF
    if length:
        columns = values[: length * PARTS].reshape(PARTS, length).T
        parts: Words = np.zeros(PARTS, np.uint32)
        for column in np.ascontiguousarray(columns):
            parts = TABLE[(parts ^ column) & 0xFF] ^ (parts >> np.uint32(8))
        shift = zero_bytes(length)
        for part in parts.tolist():
            remainder = apply(shift, remainder) ^ part
    for value in values[length * PARTS :].tolist():
        remainder = int(TABLE[(remainder ^ value) & 0xFF]) ^ (remainder >> 8)
    return remainder ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which TensorFlow stores a CRC: turned by 15 bits, plus a constant.

    >>> hex(masked(0xE3069283))
    '0xc78ab0e5'
    """
    return ((((crc >> 15) | (crc << 17)) & 0xFFFFFFFF) + MASK_DELTA) & 0xFFFFFFFF


def zero_bytes(count: int) -> list[int]:
    """The matrix that appends ``count`` zero bytes to a remainder; its columns as numbers.

    >>> apply(zero_bytes(3), 5) == apply(zero_bytes(1), apply(zero_bytes(2), 5))
    True
    """
    power = [int(TABLE[(1 << bit) & 0xFF]) ^ ((1 << bit) >> 8) for bit in range(32)]
    result = [1 << bit for bit in range(32)]
    while count:
        if count & 1:
            result = [apply(power, column) for column in result]
        power = [apply(power, column) for column in power]
        count >>= 1
    return result


def apply(matrix: list[int], vector: int) -> int:
    """``matrix`` times ``vector`` over bits."""
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result


def check(content: Any, expected: int) -> bool:
    """Whether ``content`` has the masked CRC ``expected``."""
    return masked(crc32c(content)) == expected
