"""Pictures of every format, and ways to damage a file: what `fuzz.py` and the tests are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

Damage = Callable[[bytes, np.random.Generator], bytes]

FORMATS: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("JPEG", "RGB", {"quality": 85}),
    "JPEG 4:4:4": ("JPEG", "RGB", {"quality": 95, "subsampling": 0}),
    "JPEG gray": ("JPEG", "L", {"quality": 85}),
    "JPEG CMYK": ("JPEG", "CMYK", {"quality": 85}),
    "JPEG restarts": ("JPEG", "RGB", {"quality": 85, "restart_marker_rows": 1}),
    "JPEG progressive": ("JPEG", "RGB", {"quality": 85, "progressive": True}),
    "JPEG progressive gray": ("JPEG", "L", {"quality": 85, "progressive": True}),
    "PNG": ("PNG", "RGB", {}),
    "PNG alpha": ("PNG", "RGBA", {}),
    "PNG palette": ("PNG", "P", {}),
    "GIF": ("GIF", "P", {}),
    "GIF interlaced": ("GIF", "P", {"interlace": 1}),
    "WebP": ("WEBP", "RGB", {"quality": 85}),
    "WebP lossless": ("WEBP", "RGB", {"lossless": True}),
    "BMP": ("BMP", "RGB", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "TIFF LZW": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "PPM": ("PPM", "RGB", {}),
}
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"\x00\x00\x00\x00IEND\xaeB`\x82", "GIF": b"\x00;"}


def picture(rng: np.random.Generator, side: int = 96) -> Image.Image:
    """A smooth random picture with some noise, about ``side`` pixels wide, without flat parts."""
    height, width = (int(side * share) for share in rng.uniform(0.7, 1.3, 2))
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def encode(image: Image.Image, name: str) -> bytes:
    """``image`` in the format of this name in FORMATS."""
    kind, mode, settings = FORMATS[name]
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(1, len(content))]


def close(content: bytes, rng: np.random.Generator, *, end: bytes) -> bytes:
    """Cut, and closed with the end of its format, as tools do that repair files."""
    return content[: rng.integers(len(content) // 4, len(content) - len(end))] + end


def zero_tail(content: bytes, rng: np.random.Generator) -> bytes:
    """Full size, but the end never arrived: an interrupted copy."""
    cut = rng.integers(len(content) // 4, len(content) - 1)
    return content[:cut] + bytes(len(content) - cut)


def zero_block(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(content)))
    length = min(int(rng.integers(1, 513)), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(damaged)


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """A part is gone, or there twice."""
    first, second = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    if rng.random() < 0.5:
        return content[:second] + content[first:]
    return content[:first] + content[second:]


def other(content: bytes, rng: np.random.Generator) -> bytes:
    """Something else under the name of an image: a page of the web, text, noise, or nothing."""
    choices = (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", b"hello, world\n", b"",
               rng.bytes(200), content[:4] + rng.bytes(300))  # fmt: skip
    return choices[rng.integers(len(choices))]


def damages(name: str) -> Iterator[tuple[str, Damage]]:
    """(its name, a way to damage a file) of every way that the format of this name has."""
    yield from (
        ("truncated", truncate), ("zero tail", zero_tail), ("zero block", zero_block),
        ("bits flipped", flip), ("spliced", splice), ("other content", other),
    )  # fmt: skip
    end = ENDS.get(FORMATS[name][0])
    if end is not None:
        yield "cut and closed", partial(close, end=end)
