"""Every kind of image file becomes the RGB picture it shows, or a reason; never something else."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, png, png_file, tiff, tiff_12_bit
from PIL import Image, ImageFile, features

from coview.core.errors import InvalidValue
from coview.data import decode_jpeg
from coview.data.decode import decode_image, strict_pillow
from coview.data.decode_spec import LARGEST_MAX_PIXELS, Decoded, DecodeSpec
from coview.data.listing import Rejected

PLAIN = DecodeSpec()


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with strict_pillow():
        yield


@pytest.fixture(params=["pillow", "simplejpeg"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(decode_jpeg, "is_available", lambda: False)
    return request.param


def shown(content: object, spec: DecodeSpec = PLAIN) -> np.ndarray:
    decoded = decode_image(content, spec)
    assert isinstance(decoded, Decoded), decoded
    pixels = np.frombuffer(decoded.pixels, np.uint8)
    return pixels.reshape(decoded.height, decoded.width, 4)[..., :3]


def reason(content: object, spec: DecodeSpec = PLAIN) -> str:
    decoded = decode_image(content, spec)
    assert isinstance(decoded, Rejected), decoded
    return decoded.reason


# --- the kinds of picture ---


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_decode_lossless_rgb_is_exact(kind: str) -> None:
    image = picture()
    np.testing.assert_array_equal(shown(encoded(image, kind)), image)


def test_decode_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    np.testing.assert_array_equal(shown(tmp_path / "a.png"), picture())


def test_decode_jpeg_equals_pillow(decoder: str) -> None:
    content = encoded(picture(37, 53), "JPEG", quality=80)
    np.testing.assert_array_equal(shown(content), np.asarray(Image.open(io.BytesIO(content))))


def test_decode_gray_has_three_equal_channels() -> None:
    gray = picture()[..., 0]
    np.testing.assert_array_equal(shown(encoded(gray)), np.stack([gray] * 3, axis=-1))


def test_decode_gray_jpeg_equals_pillow(decoder: str) -> None:
    content = encoded(picture()[..., 0], "JPEG")
    gray = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(shown(content), np.stack([gray] * 3, axis=-1))


def test_decode_one_bit_is_black_and_white() -> None:
    bits = picture()[..., 0] > 128
    content = encoded(Image.fromarray(bits))
    assert Image.open(io.BytesIO(content)).mode == "1"
    np.testing.assert_array_equal(shown(content)[..., 1], bits * 255)


def test_decode_palette_shows_its_colors() -> None:
    image = Image.fromarray(picture()).quantize(16)
    np.testing.assert_array_equal(shown(encoded(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_decode_alpha_is_laid_on_white(mode: str) -> None:
    rgba = Image.fromarray(np.dstack([picture(), picture(seed=5)[..., 0]])).convert(mode)
    array = np.asarray(rgba.convert("RGBA")).astype(float)
    alpha = array[..., 3:] / 255
    expected = array[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(shown(encoded(rgba)), expected, atol=1)


def test_decode_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([0, 1])
    pixels = shown(encoded(image, transparency=0))
    assert pixels.tolist() == [[[255, 255, 255], [200, 100, 0]]]


def test_decode_transparent_color_is_white() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7], [200, 100, 0]]], np.uint8))
    pixels = shown(encoded(image, transparency=(9, 8, 7)))
    assert pixels.tolist() == [[[255, 255, 255], [200, 100, 0]]]


def test_decode_cmyk_jpeg_shows_its_colors() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = shown(encoded(red, "JPEG", quality=95)).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(pixels, [255, 0, 0], atol=6)


def test_decode_cmyk_tiff_shows_its_colors() -> None:
    cyan = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert shown(encoded(cyan, "TIFF"))[0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_decode_several_frames_shows_the_first(kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 0, 250)))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(shown(content), np.asarray(first))


# --- more than eight bits ---


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_decode_16_bit_gray_ramp_keeps_its_full_range(kind: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = [(2 * value + 257) // 514 for value in range(65536)]  # round(value / 257), exact
    pixels = shown(encoded(ramp, kind))
    np.testing.assert_array_equal(pixels[..., 0].ravel(), expected)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_decode_16_bit_big_endian_gray_keeps_its_full_range() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = Image.frombytes("I;16B", (8, 8), ramp.astype(">u2").tobytes())
    np.testing.assert_array_equal(shown(encoded(image, "TIFF"))[..., 0], np.rint(ramp / 257))


def test_decode_12_bit_tiff_uses_its_declared_range() -> None:
    values = [0, 4095, 2048, 16]
    assert shown(tiff_12_bit(values))[0, :, 0].tolist() == [0, 255, 128, 1]


def test_decode_inverted_16_bit_tiff_is_inverted_back() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    tag = struct.pack("<HHI", 262, 3, 1)
    plain = encoded(ramp, "TIFF")
    assert plain.count(tag + b"\x01") == 1
    inverted = plain.replace(tag + b"\x01", tag + b"\x00")
    np.testing.assert_array_equal(shown(inverted)[..., 0], np.rint((65535 - ramp) / 257))


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_decode_16_bit_color_is_within_one_level(color_type: int, channels: int) -> None:
    ramp = np.arange(65536).reshape(256, 256)
    values = np.repeat(ramp[..., None], channels, axis=2)
    if channels in (2, 4):
        values[..., -1] = 65535
    pixels = shown(png(values.reshape(256, -1), color_type, 16))
    np.testing.assert_array_equal(pixels[..., 0], ramp // 256)
    assert np.abs(pixels[..., 2] - ramp / 257).max() < 1


def colors_of_12_bits(kind: str) -> bytes:
    values = np.linspace(0, 4095, 48).astype(np.uint16).reshape(4, 4, 3)
    return png(values.reshape(4, -1), 2, 16) if kind == "PNG" else tiff(values, photometric=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_16_bit_color_says_how_bright_it_is_and_refuses_white(kind: str) -> None:
    content = colors_of_12_bits(kind)
    user_image = lambda: Image.open(io.BytesIO(content))  # noqa: E731
    for given in (content, user_image):
        decoded = decode_image(given, PLAIN)
        assert isinstance(decoded, Decoded)
        assert decoded.highest == 15
        why = reason(given, DecodeSpec(white=4095))
        assert "65,535 as white, and `white` is 4095; write images in color with 8 bits" in why
        full = decode_image(given, DecodeSpec(white=65535))
        assert isinstance(full, Decoded)
        assert full.highest == -1
    for plain in (encoded(picture(), kind), encoded(picture(), "BMP")):
        assert decode_image(plain, DecodeSpec(white=4095)).highest == -1


def test_decode_white_rescales_a_narrow_range() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    pixels = shown(encoded(ramp), DecodeSpec(white=4095))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp / 4095 * 255))


def test_decode_values_above_white_are_refused_not_clipped() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert "outside 0 to white = 1000" in reason(encoded(ramp), DecodeSpec(white=1000))


@pytest.mark.parametrize(
    ("dtype", "words"), [(np.float32, "floating-point"), (np.int32, "32-bit integer")]
)
def test_decode_unstated_range_is_refused(dtype: type, words: str) -> None:
    content = encoded(np.ones((4, 4), dtype), "TIFF")
    assert words in reason(content)
    assert "`white`, the value that means white" in reason(content)


def test_decode_float_with_white_is_scaled() -> None:
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    pixels = shown(encoded(ramp, "TIFF"), DecodeSpec(white=1.0))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp * 255))


def test_decode_nan_is_refused() -> None:
    ramp = np.full((4, 4), np.nan, np.float32)
    assert "lie outside" in reason(encoded(ramp, "TIFF"), DecodeSpec(white=1.0))


def test_decode_other_color_spaces_are_refused() -> None:
    content = encoded(Image.new("LAB", (4, 4)), "TIFF")
    assert reason(content) == "pixels of mode LAB are not supported"


# --- bands that are no colors ---

GRAY, RGB, CMYK = 1, 2, 5


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("photometric", "extra", "bands", "others"),
    [
        (RGB, (0,), 4, 1), (RGB, (0, 0), 5, 2), (RGB, (0, 0, 0), 6, 3), (RGB, (2, 0), 5, 2),
        (RGB, (), 4, 1), (RGB, (0,) * 10, 13, 10), (GRAY, (0,), 2, 1), (GRAY, (0, 0), 3, 2),
        (CMYK, (0,), 5, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_decode_tiff_with_further_bands_is_refused(
    photometric: int, extra: tuple[int, ...], bands: int, others: int, planar: bool, dtype: type
) -> None:
    content = tiff(np.zeros((4, 6, bands), dtype), photometric, extra, planar=planar)
    verb = "is" if others == 1 else "are"
    assert reason(content) == (
        f"{bands} bands, of which {others} {verb} not stated to be color or transparency: write "
        "the three bands that count as RGB"
    )


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("photometric", "bands"), [(GRAY, 1), (RGB, 3)])
def test_decode_tiff_without_further_bands_shows_all(
    photometric: int, bands: int, planar: bool
) -> None:
    values = picture()[..., :bands]
    pixels = shown(tiff(values, photometric, planar=planar))
    np.testing.assert_array_equal(pixels, np.broadcast_to(values, pixels.shape))


@pytest.mark.parametrize(("photometric", "bands"), [(GRAY, 2), (RGB, 4)])
def test_decode_tiff_with_stated_transparency_is_composed_with_white(
    photometric: int, bands: int
) -> None:
    values = np.zeros((4, 6, bands), np.uint8)
    values[:, :3, -1] = 255
    pixels = shown(tiff(values, photometric, (2,)))
    assert pixels[:, :3].max() == 0
    assert pixels[:, 3:].min() == 255


def test_decode_tiff_of_unreadable_bits_is_not_called_damaged() -> None:
    content = tiff(np.zeros((4, 6, 3), np.float32), RGB)
    assert reason(content) == "pixels of 32, 32, 32 bits of this kind are not supported"


# --- orientation ---

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_decode_applies_orientation(kind: str, orientation: int) -> None:
    image = picture(6, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(image, kind, exif=exif, **options)
    np.testing.assert_array_equal(shown(content), UPRIGHT[orientation](image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_applies_orientation_of_jpeg(decoder: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(16, 32), "JPEG", exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(shown(content), UPRIGHT[orientation](stored))


def test_decode_keeps_a_good_picture_with_unreadable_exif() -> None:
    content = encoded(picture(), "JPEG", exif=b"Exif\x00\x00garbage garbage")
    assert shown(content).shape == (12, 16, 3)


# --- broken files ---


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_decode_truncated_file_is_rejected(kind: str, share: float) -> None:
    content = encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), kind)
    assert reason(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_decode_truncated_jpeg_is_rejected_by_either_decoder(decoder: str, share: float) -> None:
    content = encoded(picture(80, 80), "JPEG", quality=95)
    assert reason(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_decode_file_with_an_empty_end_is_rejected(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    monkeypatch.setattr(decode_jpeg, "is_available", lambda: False)
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    content = encoded(noise, kind)
    cut = len(content) * 2 // 3
    assert "truncated" in reason(content[:cut] + bytes(len(content) - cut))


def test_decode_jpeg_padded_behind_its_end_is_whole(decoder: str) -> None:
    content = encoded(picture(), "JPEG")
    np.testing.assert_array_equal(shown(content + bytes(500)), shown(content))


def test_decode_ignores_a_lenient_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(decode_jpeg, "is_available", lambda: False)
    content = encoded(picture(80, 80), "JPEG", quality=95)
    with strict_pillow():
        assert "truncated" in reason(content[: len(content) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_decode_finds_missing_picture_data_behind_an_end_marker(
    decoder: str, mode: str, options: dict[str, object], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(picture(80, 80)).convert(mode)
    content = encoded(image, "JPEG", quality=95, exif=exif, **options)
    start = content.index(b"\xff\xda")  # of the first scan
    cut = start + (len(content) - start) // (20 if "progressive" in options else 2)
    assert "truncated" in reason(content[:cut] + b"\xff\xd9")


@pytest.mark.parametrize("short_side", [None, 13])
def test_decode_keeps_a_whole_jpeg_that_ends_in_mid_gray(
    decoder: str, short_side: int | None
) -> None:
    image = picture(81, 101)
    image[40:] = 128
    spec = DecodeSpec(short_side=short_side)
    assert (shown(encoded(image, "JPEG", quality=95), spec)[-1] == 128).all()


def test_decode_empty_file_is_rejected() -> None:
    assert reason(b"") == "empty file"


@pytest.mark.parametrize("content", [b"hello, world", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_decode_non_image_is_rejected(content: bytes) -> None:
    assert "not an image" in reason(content)


def test_decode_never_calls_an_interpreter() -> None:
    """Pillow alone would start Ghostscript for this."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert Image.open(io.BytesIO(content)).format == "EPS"
    assert "not an image" in reason(content)


def test_decode_missing_file_is_rejected(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.jpg") == "No such file or directory"


def test_decode_large_image_is_refused_by_its_header() -> None:
    """The data are nonsense: had they been touched, the reason would be another."""
    content = png_file(20_000, 8_000, 2, 8, b"nonsense")
    assert "image too large (20000 x 8000" in reason(content, DecodeSpec(max_pixels=10**8))


def test_decode_image_beyond_pillows_own_limit_is_refused() -> None:
    assert "image too large" in reason(png_file(60_000, 60_000, 2, 8, b"nonsense"))


def test_decode_large_jpeg_is_refused_by_its_header(decoder: str) -> None:
    content = bytearray(encoded(picture(16, 16), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (12_000).to_bytes(2, "big") + (15_000).to_bytes(2, "big")
    assert "image too large" in reason(bytes(content))


def test_decode_image_of_just_the_limit_is_accepted() -> None:
    assert shown(encoded(picture(10, 10)), DecodeSpec(max_pixels=100)).shape == (10, 10, 3)
    assert "too large" in reason(encoded(picture(10, 10)), DecodeSpec(max_pixels=99))


def test_decode_surprising_error_is_a_reason() -> None:
    def explode() -> Image.Image:
        raise RuntimeError("the decoder fell over")

    assert reason(explode) == "damaged (RuntimeError: the decoder fell over)"


@pytest.mark.parametrize(
    "wrong",
    [{"short_side": 0}, {"max_pixels": 0}, {"max_pixels": LARGEST_MAX_PIXELS + 1}, {"white": 0.0}],
)
def test_decode_spec_refuses_values_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        DecodeSpec(**wrong)


# --- resizing ---


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 96), (16, 24)), ((96, 64), (24, 16)), ((16, 40), (16, 40))]
)
def test_decode_short_side_keeps_the_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    pixels = shown(encoded(picture(*size)), DecodeSpec(short_side=16))
    assert pixels.shape == (*expected, 3)


def test_decode_smaller_image_is_left_as_it_is() -> None:
    np.testing.assert_array_equal(
        shown(encoded(picture(9, 40)), DecodeSpec(short_side=16)), picture(9, 40)
    )


def test_decode_very_long_image_keeps_at_least_a_pixel() -> None:
    assert shown(encoded(picture(1, 200)), DecodeSpec(short_side=1)).shape == (1, 200, 3)


def test_decode_resizing_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = shown(encoded(stripes), DecodeSpec(short_side=16))[2:-2, 2:-2]
    np.testing.assert_allclose(inner, 127.5, atol=2)


def test_decode_draft_of_a_large_jpeg_is_close_to_the_full_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = encoded(picture(400, 600), "JPEG", quality=90)
    spec = DecodeSpec(short_side=40)
    assert spec.draft_size(600, 400) == (120, 80)
    assert decode_jpeg._draft_scale((600, 400), spec) == 4
    with monkeypatch.context() as patch:
        patch.setattr(decode_jpeg, "_draft_scale", lambda size, spec: 1)
        full = shown(content, spec).astype(int)
    np.testing.assert_allclose(shown(content, spec), full, atol=4)


def test_decode_jpeg_below_four_times_is_not_drafted(
    decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(picture(150, 200), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(content)).convert("RGB")
    expected = np.asarray(whole.resize((53, 40), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(shown(content, DecodeSpec(short_side=40)), expected)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_decode_simplejpeg_gives_pillows_pixels(
    quality: int, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    noisy = np.random.default_rng(1).integers(0, 256, (33, 47, 3), np.uint8)
    content = encoded(noisy, "JPEG", quality=quality, subsampling=subsampling)
    fast = shown(content)
    monkeypatch.setattr(decode_jpeg, "is_available", lambda: False)
    assert np.abs(fast.astype(int) - shown(content)).max() <= 1


def test_decode_stray_bytes_in_a_jpeg_are_harmless(decoder: str) -> None:
    content = encoded(picture(16, 16), "JPEG")
    tables = content.index(b"\xff\xdb")
    disturbed = content[:tables] + b"\x00\x00\x00" + content[tables:]
    np.testing.assert_array_equal(shown(disturbed), shown(content))
