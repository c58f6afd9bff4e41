"""Never a picture with a gray rest, and no file that takes a machine's memory or minutes."""

from __future__ import annotations

import io
import os
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, png_chunk, png_file
from PIL import Image

from coview.data import decode_jpeg
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import Decoded, DecodeSpec
from coview.data.gif import _after_table, _blocks, _count_pixels
from coview.data.listing import Rejected

SMALL = DecodeSpec(short_side=256)


@pytest.fixture(autouse=True)
def pillow_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(decode_jpeg, "is_available", lambda: False)
    with strict_pillow():
        yield


def noisy(side: int = 80, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 20, (side, side, 3))
    return np.clip(picture(side, side).astype(int) + noise, 0, 255).astype(np.uint8)


def reason(content: bytes | Path, spec: DecodeSpec = SMALL) -> str:
    image = decode_image(content, spec)
    assert isinstance(image, Rejected), (image.height, image.width)
    return image.reason


# --- halves ---


def test_png_with_a_zero_tail_is_rejected_at_every_length() -> None:
    content = encoded(picture(13, 17))
    for end in range(60, len(content) - 8):
        assert reason(content[:end] + bytes(len(content) - end))


def test_png_with_a_wrong_checksum_is_rejected() -> None:
    content = bytearray(encoded(picture()))
    content[content.index(b"IDAT") + 12] ^= 1
    assert "checksum" in reason(bytes(content))


@pytest.mark.parametrize("interlaced", [0, 1])
def test_png_whose_encoder_wrote_too_few_rows_is_rejected(interlaced: int) -> None:
    rows = zlib.compress(b"".join(b"\x00" + bytes([90] * 60) for _ in range(12)))
    content = bytearray(png_file(20, 20, 2, 8, rows))
    content[28] = interlaced
    content[16:33] = png_chunk(b"IHDR", bytes(content[16:29]))[8:]
    assert interlaced or "rows are missing" in reason(bytes(content))
    assert reason(bytes(content))


def test_png_that_ends_black_is_whole() -> None:
    image = picture(20, 20)
    image[10:] = 0
    assert isinstance(decode_image(encoded(image), SMALL), Decoded)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_progressive_jpeg_cut_anywhere_and_closed_is_rejected_or_shows_the_same(mode: str) -> None:
    content = encoded(Image.fromarray(noisy()).convert(mode), "JPEG", quality=85, progressive=True)
    whole = decode_image(content, SMALL)
    start = content.index(b"\xff\xda")
    for cut in range(start, len(content) - 2, 13):
        image = decode_image(content[:cut] + b"\xff\xd9", SMALL)
        assert isinstance(image, Rejected) or image == whole, cut


def test_jpeg_cut_and_closed_is_rejected_before_its_last_block() -> None:
    content = encoded(noisy(), "JPEG", quality=85)
    start = content.index(b"\xff\xda") + 14
    end = start + (len(content) - start) * 23 // 25  # 25 blocks of 16 x 16
    for cut in range(start, end, 11):
        assert "truncated" in reason(content[:cut] + b"\xff\xd9"), cut


def test_jpeg_cut_before_a_restart_marker_is_rejected() -> None:
    content = encoded(noisy(), "JPEG", quality=85, restart_marker_rows=1)
    for marker in range(0xD0, 0xD4):
        cut = content.index(b"\xff" + bytes([marker]), content.index(b"\xff\xda"))
        assert "truncated" in reason(content[:cut] + b"\xff\xd9")


def test_jpeg_without_one_of_its_components_is_rejected() -> None:
    """Its scans are whole; one never came."""
    content = encoded(noisy(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xc4")
    assert "scans are missing" in reason(content[:last] + b"\xff\xd9")


def test_gif_whose_data_end_early_is_rejected() -> None:
    image = Image.fromarray(noisy()).quantize(32)
    whole = encoded(image, "GIF", interlace=0)
    short = encoded(image.crop((0, 0, 80, 60)), "GIF", interlace=0)
    at = short.index(b"\x2c\x00\x00\x00\x00")
    lying = short[: at + 7] + struct.pack("<H", 80) + short[at + 9 :]
    lying = lying[:8] + struct.pack("<H", 80) + lying[10:]
    assert isinstance(decode_image(whole, SMALL), Decoded)
    assert reason(lying)


def test_small_jpeg_cut_within_its_last_block_is_rejected_if_a_zero_bit_tells() -> None:
    content = encoded(noisy(32), "JPEG", quality=85)
    whole = decode_image(content, SMALL)
    for cut in range(content.index(b"\xff\xda") + 14, len(content) - 2):
        if content[cut - 1] & 1 == 0:
            image = decode_image(content[:cut] + b"\xff\xd9", SMALL)
            assert isinstance(image, Rejected) or image == whole, cut


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("side", [3, 40, 200])
def test_gif_pixels_are_counted_by_the_lengths_of_strings(side: int, interlace: int) -> None:
    for image in (noisy(side), picture(side, side), np.zeros((side, side, 3), np.uint8)):
        content = encoded(Image.fromarray(image).quantize(64), "GIF", interlace=interlace)
        start = content.index(b"\x2c\x00\x00\x00\x00")
        start = _after_table(content, start + 9, start + 10)
        assert _count_pixels(_blocks(content, start + 1)[0], content[start]) == side * side


def test_webp_with_a_zero_tail_is_rejected_and_metadata_behind_it_is_not_looked_at() -> None:
    content = encoded(noisy(), "WEBP", quality=85)
    assert "zeros" in reason(content[:-100] + bytes(100))
    with_exif = encoded(noisy(), "WEBP", quality=85, exif=b"Exif\x00\x00II*\x00" + bytes(200))
    assert isinstance(decode_image(with_exif, SMALL), Decoded)


# --- too much ---


def flat_png(width: int, height: int) -> bytes:
    """A black image of one bit per pixel, all rows in a few kilobytes."""
    row = bytes(1 + -(-width // 8))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png_file(width, height, 0, 1, data)


def lying_jpeg(width: int, height: int) -> bytes:
    content = bytearray(encoded(picture(16, 16), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def many_scans(count: int) -> bytes:
    content = encoded(Image.new("L", (2048, 2048)), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scan * count + content[-2:]


def sized(kind: str, at: int, layout: str) -> bytes:
    content = bytearray(encoded(picture(16, 16), kind))
    struct.pack_into(layout, content, at, *[2 ** (7 * struct.calcsize(layout) // 2) - 1] * 2)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (flat_png(13377, 13377), "too large"), (png_file(13377, 13377, 2, 8, bytes(1000)), "too large"),
        (png_file(8000, 8000, 2, 8, bytes(1000)), "too short"), (lying_jpeg(16000, 12000), "too short"),
        (lying_jpeg(65000, 65000), "too slow"), (many_scans(4000), "too slow"),
        (sized("GIF", 6, "<HH"), "too large"), (sized("WEBP", 26, "<HH"), "too large"),
    ],
    ids=["png", "short png", "png without rows", "jpeg", "large jpeg", "scans", "gif", "webp"],
)  # fmt: skip
def test_image_that_would_take_too_much_is_refused_from_its_header(
    content: bytes, words: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    assert words in reason(content)
    assert time.process_time() - start < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_photograph_of_200_megapixels_is_decoded_at_a_short_side() -> None:
    content = encoded(Image.new("L", (16320, 12240), 90), "JPEG", quality=20)
    image = decode_image(content, SMALL)
    assert isinstance(image, Decoded)
    assert (image.height, image.width) == (256, 341)
    assert "too large" in reason(content, DecodeSpec())


@pytest.mark.parametrize(
    ("size", "kept"),
    [((10_000, 1), (4096, 1)), ((1, 10_000), (1, 4096)), ((9000, 300), (4096, 137)), ((4000, 256), (4000, 256))],
)  # fmt: skip
def test_long_image_is_kept_at_sixteen_times_the_short_side(size: tuple, kept: tuple) -> None:
    assert SMALL.stored_size(*size) == kept
    image = decode_image(encoded(Image.new("L", size)), SMALL)
    assert (image.width, image.height) == kept


def test_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "not a regular file"


def test_caller_keeps_his_own_limit_of_pixels() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with strict_pillow():
        Image.open(io.BytesIO(encoded(picture()))).load()
    assert limit == Image.MAX_IMAGE_PIXELS
