"""Tiny images and files for the tests of coview.data."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def picture(height: int = 12, width: int = 16, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth random color image, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).copy()


def encoded(image: npt.NDArray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(rows: npt.NDArray, color_type: int, bits: int, extra: bytes = b"") -> bytes:
    """A PNG written by hand (Pillow writes no 16-bit color). rows: [H, W * channels]."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    height, width = rows.shape[0], rows.shape[1] // channels
    lines = rows.astype(">u2" if bits == 16 else "u1")
    raw = b"".join(b"\x00" + line.tobytes() for line in lines)
    return png_file(width, height, color_type, bits, zlib.compress(raw), extra)


def png_file(
    width: int, height: int, color_type: int, bits: int, data: bytes, extra: bytes = b""
) -> bytes:
    """A PNG with the given header and compressed data, which need not fit it."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff_12_bit(values: list[int]) -> bytes:
    """A gray TIFF of one row with 12 bits a pixel (an even number of pixels)."""
    packed = int("".join(f"{value:03x}" for value in values), 16).to_bytes(len(values) * 3 // 2)
    tags = [(256, len(values)), (257, 1), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1)]
    tags += [(278, 1), (279, len(packed))]
    offset = 8 + 2 + 12 * len(tags) + 4
    tags[5] = (273, offset)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\x00" + struct.pack("<IH", 8, len(tags))
    return head + entries + bytes(4) + packed


def tiff(
    bands: npt.NDArray, photometric: int, extra: tuple[int, ...] = (), *, planar: bool = False
) -> bytes:
    """A TIFF of any number of bands [H, W, N], uint8, uint16 or float32; extra: ExtraSamples."""
    height, width, count = bands.shape
    pixels = (bands.transpose(2, 0, 1) if planar else bands).tobytes()
    strips, each = (count, len(pixels) // count) if planar else (1, len(pixels))
    values = {
        256: (width,), 257: (height,), 258: (8 * bands.dtype.itemsize,) * count, 259: (1,),
        262: (photometric,), 273: (0,) * strips, 277: (count,), 278: (height,),
        279: (each,) * strips, 284: (2 if planar else 1,), 338: extra,
        339: (3 if bands.dtype.kind == "f" else 1,) * count,
    }  # fmt: skip
    values = {tag: numbers for tag, numbers in values.items() if numbers}
    longer = 8 + 2 + 12 * len(values) + 4  # where values lie that no entry holds
    start = longer + sum(4 * len(numbers) for numbers in values.values() if len(numbers) > 1)
    values[273] = tuple(start + number * each for number in range(strips))
    entries, rest = b"", b""
    for tag, numbers in values.items():
        content = struct.pack(f"<{len(numbers)}I", *numbers)
        inline = content if len(numbers) == 1 else struct.pack("<I", longer + len(rest))
        rest += content if len(numbers) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + inline
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4) + rest + pixels


def write_images(folder: Path, names: list[str], height: int = 12, width: int = 16) -> None:
    """One PNG per name, each a different picture."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(height, width, seed)))
