"""Metadata that no pixel needs never makes a picture unusable; the orientation is applied."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import encoded, picture, png_chunk
from PIL import Image

from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import Decoded, DecodeSpec

SIX = (0x0112, 3, 1, b"\x06\x00\x00\x00")  # the orientation: lying on its right side


def decoded(content: bytes) -> Decoded:
    with strict_pillow():
        image = decode_image(content, DecodeSpec())
    assert isinstance(image, Decoded), image
    return image


def exif(*entries: tuple[int, int, int, bytes], extra: bytes = b"") -> bytes:
    """A TIFF block of these entries (tag, type, count, value), and what their offsets refer to."""
    packed = b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in sorted(entries))
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + packed + bytes(4) + extra


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    content = encoded(picture(64, 80), "JPEG")
    parts = (b"\xff" + bytes([kind]) + struct.pack(">H", len(b) + 2) + b for kind, b in segments)
    return content[:2] + b"".join(parts) + content[2:]


def with_exif(block: bytes) -> bytes:
    return jpeg_with((0xE1, b"Exif\x00\x00" + block))


@pytest.mark.parametrize("tag", [0x010F, 0x011A, 0x0128, 0x0131, 0x8769, 0x8825, 0x9286])
def test_orientation_is_applied_beside_any_other_tag(tag: int) -> None:
    for kind in (*range(14), 65535):
        for count in (0, 1, 4, 1000, 2**32 - 1):
            for value in (bytes(4), b"\xff" * 4, struct.pack("<L", 38)):
                image = decoded(with_exif(exif((tag, kind, count, value), SIX, extra=bytes(16))))
                assert (image.height, image.width) == (80, 64), (kind, count, value)


@pytest.mark.parametrize(
    "wrong", [(0x0112, 3, 1, b"\x09\x00\x00\x00"), (0x0112, 2, 1, b"6\x00\x00\x00")]
)
def test_orientation_that_means_nothing_leaves_the_picture(wrong: tuple) -> None:
    image = decoded(with_exif(exif(wrong)))
    assert (image.height, image.width) == (64, 80)


@pytest.mark.parametrize(
    "block", [b"", b"II*\x00", b"II*\x00\xff\xff\xff\xff", b"MM\x00*" + bytes(9)]
)
def test_exif_that_is_cut_leaves_the_picture(block: bytes) -> None:
    assert decoded(with_exif(block)).height == 64


def test_orientation_of_xmp_is_applied() -> None:
    xmp = b'http://ns.adobe.com/xap/1.0/\x00<rdf:Description tiff:Orientation="8"/>'
    assert decoded(jpeg_with((0xE1, xmp))).height == 80


@pytest.mark.parametrize(
    "segments",
    [
        [(0xFE, bytes(65000))] * 50, [(0xE2, b"ICC_PROFILE\x00\x01\x02" + bytes(range(200)))],
        [(0xE2, b"MPF\x00II*\x00\x08\x00\x00\x00\x03\x00" + bytes(range(200)))],
        [(0xED, b"Photoshop 3.0\x00" + bytes(range(200)))], [(0xEE, b"Adobe")], [(0xE0, b"JFIF\x00")],
    ],
    ids=["comments", "profile", "several pictures", "photoshop", "short Adobe", "short JFIF"],
)  # fmt: skip
def test_jpeg_segments_that_no_pixel_needs_change_nothing(segments: list) -> None:
    plain = decoded(jpeg_with())
    assert bytes(decoded(jpeg_with(*segments)).pixels) == bytes(plain.pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_bytes_behind_the_end_change_nothing(kind: str) -> None:
    content = encoded(picture(64, 80), kind)
    for behind in (b"junk" * 5000, content):
        assert bytes(decoded(content + behind).pixels) == bytes(decoded(content).pixels)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"eXIf", b"tIME", b"acTL"])
def test_png_chunk_that_no_pixel_needs_changes_nothing(kind: bytes) -> None:
    """Text of nine megabytes when unpacked, of which Pillow takes one; with a wrong checksum too."""
    content = encoded(picture(64, 80))
    chunk = png_chunk(kind, b"name\x00\x00" + zlib.compress(bytes(9 << 20), 1))
    for extra in (chunk, chunk[:-1] + b"!"):
        longer = content[:33] + extra + content[33:]
        assert bytes(decoded(longer).pixels) == bytes(decoded(content).pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_tiff_tag_that_no_pixel_needs_changes_nothing(compression: str) -> None:
    image = Image.fromarray(picture(24, 32))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=compression, software="text", tiffinfo={274: 6})
    content = buffer.getvalue()
    entry = struct.pack("<HH", 305, 2)
    assert content.count(entry) == 1
    start = content.index(entry)
    odd = content[: start + 4] + struct.pack("<LL", 2**31, 2**32 - 9) + content[start + 12 :]
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    shown = np.frombuffer(decoded(odd).pixels, np.uint8).reshape(32, 24, 4)[..., :3]
    np.testing.assert_array_equal(shown, expected)
