"""Every corruption against a literal one: loops over pixels, scipy, colorsys, Pillow."""

import colorsys
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from coview.core.errors import InvalidValue, UnknownName
from coview.evaluation.corruptions import CORRUPTIONS, SCALES, SEVERITIES, corrupt, scale_of
from coview.evaluation.corruptions.blur import disk, zoom_matrix
from coview.evaluation.corruptions.draws import Draws
from coview.evaluation.corruptions.noise import poisson_counts
from coview.evaluation.corruptions.weather import FROST_DEVIATION, FROST_MEAN, frost_texture

CIFAR, TINY, IMAGENET = SCALES
PLAIN = {scale.name: replace(scale, jpeg_quality=None) for scale in SCALES}
IDS = np.array([7, -3, 1 << 40])


def pictures(size=32, count=3, seed=0):
    """Smooth random color images."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, size, size, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (255 * smooth).astype(np.uint8)


def draws_of(name, severity, seed=0):
    return Draws(ids=IDS, seed=seed, key=8 * list(CORRUPTIONS).index(name) + severity)


def both(name, severity, scale=CIFAR, size=None):
    """(images, what corrupt makes of them, the strength, the draws)."""
    images = pictures(size or scale.size)
    made = corrupt(images, IDS, name, severity, scale=PLAIN[scale.name])
    return images, made, scale.strengths[name][severity - 1], draws_of(name, severity)


def assert_close(made, literal, share=0.0):
    """Within one level: the last bit of a float decides where a value is cut off."""
    literal = np.clip(literal, 0, 255).astype(np.uint8)
    difference = np.abs(made.astype(int) - literal.astype(int))
    assert difference.max() <= (1 if share == 0 else 2)
    assert (difference > 1).mean() <= share
    assert (difference > 0).mean() < 0.1


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_a_scale_has_five_strengths_of_each_of_fifteen_corruptions(scale):
    assert list(scale.strengths) == list(CORRUPTIONS)
    assert len(CORRUPTIONS) == 15
    for strengths in scale.strengths.values():
        assert len(strengths) == len(set(strengths)) == 5
        assert len({len(numbers) for numbers in strengths}) == 1


def test_the_scale_is_the_one_of_the_nearest_size():
    names = [scale_of(size).name for size in (16, 45, 46, 119, 120, 448)]
    assert names == [s.name for s in (CIFAR, CIFAR, TINY, TINY, IMAGENET, IMAGENET)]
    with pytest.raises(InvalidValue, match="at least 16 pixels"):
        scale_of(15)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_depends_on_seed_id_and_severity_and_not_on_the_batch(name, monkeypatch):
    images = pictures()
    whole = corrupt(images, IDS, name, 5)
    assert whole.shape == images.shape
    assert whole.dtype == np.uint8
    order = np.array([2, 0, 1])
    assert np.array_equal(corrupt(images[order], IDS[order], name, 5), whole[order])
    monkeypatch.setattr("coview.evaluation.corruptions.render.CHUNK_PIXELS", 32 * 32)
    assert np.array_equal(corrupt(images, IDS, name, 5), whole)
    assert not np.array_equal(corrupt(images, IDS, name, 1), whole)
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg"}
    same = np.array_equal(corrupt(images, IDS, name, 5, seed=1), whole)
    assert same == (name in fixed)
    same = np.array_equal(corrupt(images, IDS + 1, name, 5), whole)
    assert same == (name in fixed)


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_5_changes_more_than_severity_1(name, scale):
    images = pictures(scale.size)
    change = [np.abs(corrupt(images, IDS, name, s).astype(int) - images).mean() for s in SEVERITIES]
    # The published elastic transform of 224 pixels trades displacement for roughness.
    assert change[4] > change[0] > 0 or name == "elastic"


def test_sizes_between_the_published_ones_and_odd_ones_work():
    for size in (16, 33, 97):
        images = pictures(size)
        for name in CORRUPTIONS:
            assert corrupt(images, IDS, name, 3).shape == images.shape


def test_the_published_jpeg_comes_on_top():
    images = pictures(64)
    plain = corrupt(images, IDS, "contrast", 1, scale=PLAIN[TINY.name])
    buffer = io.BytesIO()
    Image.fromarray(plain[0]).save(buffer, "JPEG", quality=85)
    assert np.array_equal(corrupt(images, IDS, "contrast", 1)[0], np.asarray(Image.open(buffer)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "gausian_noise"}, UnknownName, "Did you mean 'gaussian_noise'"),
        ({"severity": 6}, InvalidValue, "`severity` is 6; expected 1 to 5"),
        ({"images": np.zeros((3, 32, 30, 3), np.uint8)}, InvalidValue, r"uint8 \[N, S, S, 3\]"),
        ({"images": np.zeros((3, 32, 32, 3), np.float32)}, InvalidValue, "are float32"),
        ({"ids": IDS[:2]}, InvalidValue, "with 2 ids"),
    ],
)
def test_what_cannot_be_corrupted_is_an_error(change, error, words):
    values = {"images": pictures(), "ids": IDS, "name": "contrast", "severity": 1, **change}
    with pytest.raises(error, match=words):
        corrupt(values["images"], values["ids"], values["name"], values["severity"])


def test_uniform_and_normal_numbers_have_their_distributions():
    draws = draws_of("gaussian_noise", 1)
    assert stats.kstest(draws.uniform(20_000).ravel(), "uniform").pvalue > 0.01
    assert stats.kstest(draws.normal(20_000, part=1).ravel(), "norm").pvalue > 0.01
    parts = np.concatenate([draws.uniform(500, part=part) for part in range(3)], axis=1)
    assert len(np.unique(parts)) > 0.999 * parts.size


def test_gaussian_noise_adds_scaled_normal_numbers():
    images, made, (deviation,), draws = both("gaussian_noise", 5)
    noise = stats.norm.ppf(draws.uniform(32, 32, 3) + 2.0**-25)
    assert_close(made, (images / 255 + deviation * noise).clip(0, 1) * 255)


@pytest.mark.parametrize("photons", [3, 60, 500])
def test_shot_noise_counts_photons_by_inversion(photons):
    images = pictures(16)
    uniform = draws_of("shot_noise", 1).uniform(16, 16, 3)
    literal = stats.poisson.ppf(uniform, photons * (images / 255)).clip(0)
    counts = poisson_counts(images, photons, uniform)
    assert (counts != literal).mean() < 1e-3  # where uniform is a value of the function itself
    assert np.abs(counts - literal).max() <= 1
    assert (poisson_counts(np.zeros_like(images), photons, uniform) == 0).all()


def test_impulse_noise_changes_its_share_half_to_black_and_half_to_white():
    gray = np.full((3, 224, 224, 3), 100, np.uint8)
    made = corrupt(gray, IDS, "impulse_noise", 5, scale=PLAIN[IMAGENET.name])
    (share,) = IMAGENET.strengths["impulse_noise"][4]
    assert (made == 0).mean() == pytest.approx(share / 2, abs=0.003)
    assert (made == 255).mean() == pytest.approx(share / 2, abs=0.003)
    assert set(np.unique(made)) == {0, 100, 255}


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_blur_correlates_with_the_disk(scale, severity):
    images, made, strength, _ = both("defocus_blur", severity, scale)
    kernel = disk(*strength)[:, :, None]
    literal = [ndimage.correlate(image / 255, kernel, mode="mirror") * 255 for image in images]
    assert_close(made, np.stack(literal))


def test_the_disk_is_flat_inside_soft_at_the_border_and_sums_to_one_within_its_grid():
    for radius in (1.5, 3, 6):
        kernel = disk(radius, 0.5)
        half = len(kernel) // 2
        assert kernel.sum() == pytest.approx(1)
        assert np.array_equal(kernel, kernel[::-1])
        for i in range(len(kernel)):
            for j in range(len(kernel)):
                if math.hypot(i - half, j - half) > radius + 1.5:
                    assert kernel[i, j] < 1e-12
    assert disk(8, 0.5).sum() == pytest.approx(1.013, abs=1e-3)  # the published grid ends there


@pytest.mark.parametrize(("scale", "severity"), [(CIFAR, 2), (CIFAR, 4), (TINY, 5)])
def test_glass_blur_is_a_loop_that_copies_a_near_pixel(scale, severity):
    images, made, (sigma, distance, repetitions), draws = both("glass_blur", severity, scale)
    size, literal = scale.size, []
    inner = size - 2 * distance
    numbers = [draws.uniform(2, inner, inner, part=part) for part in range(repetitions)]
    for index, image in enumerate(images):
        smooth = ndimage.gaussian_filter(image / 255, (sigma, sigma, 0), mode="nearest") * 255
        pixels = smooth.astype(np.uint8)
        for uniform in numbers:
            for row in range(size - distance, distance, -1):
                for column in range(size - distance, distance, -1):
                    place = (size - distance - row, size - distance - column)
                    down = math.floor(uniform[index, 0][place] * 2 * distance) - distance
                    right = math.floor(uniform[index, 1][place] * 2 * distance) - distance
                    pixels[row, column] = pixels[row + down, column + right].copy()
        literal.append(
            ndimage.gaussian_filter(pixels / 255, (sigma, sigma, 0), mode="nearest") * 255
        )
    assert_close(made, np.stack(literal), share=1e-3)


def streak(image, radius, sigma, angle):
    """Motion blur, pixel by pixel."""
    height, width = image.shape[:2]
    weights = [math.exp(-i * i / (2 * sigma**2)) for i in range(2 * radius + 1)]
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            for i, weight in enumerate(weights):
                down = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
                right = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
                source = min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)
                result[row, column] += weight * image[source]
    return result / sum(weights)


@pytest.mark.parametrize("severity", [1, 5])
def test_motion_blur_is_a_loop_over_the_line(severity):
    images, made, (radius, sigma), draws = both("motion_blur", severity)
    angles = 90 * draws.uniform(1)[:, 0] - 45
    literal = [streak(x.astype(float), radius, sigma, a) for x, a in zip(images, angles)]  # noqa: B905
    assert_close(made, np.stack(literal))


def central_zoom(image, factor):
    size = len(image)
    part = math.ceil(size / factor)
    first = (size - part) // 2
    zoomed = ndimage.zoom(image[first : first + part, first : first + part], factor, order=1)
    cut = (len(zoomed) - size) // 2
    return zoomed[cut : cut + size, cut : cut + size]


@pytest.mark.parametrize("size", [32, 97, 224])
@pytest.mark.parametrize("factor", [1.0, 1.06, 1.25, 2.25, 4.5])
def test_zoom_matrix_is_scipys_zoom_of_the_center(size, factor):
    image = pictures(size, 1)[0, ..., 0] / 255
    matrix = zoom_matrix(size, factor)
    np.testing.assert_allclose(matrix @ image @ matrix.T, central_zoom(image, factor), atol=1e-9)


@pytest.mark.parametrize(("severity", "count"), [(1, 7), (5, 26)])
def test_zoom_blur_is_the_mean_of_the_image_and_its_zooms(severity, count):
    images, made, strength, _ = both("zoom_blur", severity)
    factors = np.arange(*strength)  # the script's: 1.25 in it is a little more than 1.25
    np.testing.assert_allclose(factors, [1 + 0.01 * i for i in range(count)])
    literal = []
    for image in images:
        total = image / 255
        for factor in factors:
            total = total + np.stack(
                [central_zoom(c, factor) for c in np.rollaxis(image / 255, 2)], 2
            )
        literal.append(255 * total / (count + 1))
    assert_close(made, np.stack(literal))


@pytest.mark.parametrize("severity", [1, 4])
def test_snow_is_made_of_flakes_in_motion_and_lost_color(severity):
    images, made, strength, draws = both("snow", severity)
    mean, deviation, zoom, threshold, radius, sigma, share = strength
    normal, uniform = draws.normal(32, 32), draws.uniform(1, part=1)[:, 0]
    literal = []
    for index, image in enumerate(images):
        flakes = central_zoom(mean + deviation * normal[index], zoom)
        flakes = np.floor(255 * np.where(flakes < threshold, 0, flakes).clip(0, 1))
        layer = np.floor(streak(flakes, radius, sigma, -135 + 90 * uniform[index])) / 255
        x = image / 255
        gray = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
        pale = np.maximum(x, 1.5 * gray[..., None] + 0.5)
        x = share * x + (1 - share) * pale
        literal.append(255 * (x + (layer + layer[::-1, ::-1])[..., None]).clip(0, 1))
    assert_close(made, np.stack(literal))


def diamond_square(numbers, side, decay):
    """The fractal, point by point: squares of a level before its diamonds."""
    heights, used, step, amplitude = np.zeros((side, side)), 1, side, 100.0

    def put(points, offsets):
        nonlocal used
        for row, column in points:
            near = [heights[(row + a) % side, (column + b) % side] for a, b in offsets]
            heights[row, column] = sum(near) / 4 + amplitude**2 * (2 * numbers[used] - 1)
            used += 1

    while step >= 2:
        h = step // 2
        whole, halves = range(0, side, step), range(h, side, step)
        put([(r, c) for r in halves for c in halves], [(-h, -h), (-h, h), (h, -h), (h, h)])
        cross = [(-h, 0), (h, 0), (0, -h), (0, h)]
        put([(r, c) for r in whole for c in halves], cross)
        put([(r, c) for r in halves for c in whole], cross)
        step, amplitude = h, amplitude / decay
    assert used == side * side
    return (heights - heights.min()) / (heights.max() - heights.min())


@pytest.mark.parametrize(("size", "severity"), [(32, 1), (32, 5), (33, 3)])
def test_fog_is_a_fractal_under_the_highest_value(size, severity):
    images, made, (amount, decay), draws = both("fog", severity, size=size)
    side = 32 if size == 32 else 64
    numbers = draws.uniform(side * side)
    literal = []
    for image, row in zip(images, numbers, strict=True):
        x, fractal = image / 255, diamond_square(row, side, decay)[:size, :size]
        literal.append(255 * (x + amount * fractal[..., None]) * x.max() / (x.max() + amount))
    assert_close(made, np.stack(literal))


def test_frost_is_the_weighted_sum_with_a_bluish_texture():
    images, made, (weight, frost_weight), draws = both("frost", 5)
    texture = frost_texture(draws, 32)
    assert_close(made, weight * images + frost_weight * texture)
    means = texture.mean(axis=(1, 2))
    assert (means[:, 0] < means[:, 2]).all()
    gray = texture.mean(axis=3)
    assert (
        (gray.mean((1, 2)) > FROST_MEAN[0] - 15) & (gray.mean((1, 2)) < FROST_MEAN[1] + 15)
    ).all()
    assert (gray.std((1, 2)) < FROST_DEVIATION[1] + 5).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_raises_the_value_of_hsv(severity):
    images, made, (amount,), _ = both("brightness", severity)
    images[0, :2] = 0
    made = corrupt(images, IDS, "brightness", severity)
    literal = np.zeros(images.shape)
    for place in np.ndindex(images.shape[:3]):
        h, s, v = colorsys.rgb_to_hsv(*(images[place] / 255))
        literal[place] = 255 * np.array(colorsys.hsv_to_rgb(h, s, min(v + amount, 1)))
    assert_close(made, literal)


def test_contrast_draws_every_channel_towards_its_mean():
    images, made, (factor,), _ = both("contrast", 4)
    literal = np.empty(images.shape)
    for n in range(len(images)):
        for channel in range(3):
            plane = images[n, ..., channel] / 255
            literal[n, ..., channel] = 255 * (factor * plane + (1 - factor) * plane.mean())
    assert_close(made, literal)


@pytest.mark.parametrize(("scale", "severity"), [(CIFAR, 1), (CIFAR, 5), (TINY, 4), (IMAGENET, 2)])
def test_elastic_is_scipys_interpolation_twice(scale, severity):
    images, made, strength, draws = both("elastic", severity, scale)
    size = scale.size
    amount, smoothness, affine = (x * size * scale.elastic_unit for x in strength)
    corners, shifts = draws.uniform(3, 2), draws.uniform(2, size, size, part=1)
    y, x = np.mgrid[:size, :size]
    literal = []
    for n, image in enumerate(images):
        center, square = size // 2, size // 3
        before = center + square * np.array([[1, 1], [1, -1], [-1, -1]])
        after = before + affine * (2 * corners[n] - 1)
        forward = np.linalg.solve(np.c_[before, np.ones(3)], after).T  # (x, y, 1) -> (x, y)
        back = np.linalg.inv(np.r_[forward, [[0, 0, 1]]])
        across, down, _ = np.einsum("ij,jhw->ihw", back, np.stack([x, y, np.ones_like(x)]))
        planes = [
            ndimage.map_coordinates(plane / 255, [down, across], order=1, mode="mirror")
            for plane in np.rollaxis(image, 2)
        ]
        if amount:
            moves = [
                amount * ndimage.gaussian_filter(2 * u - 1, smoothness, mode="reflect", truncate=3)
                for u in shifts[n]
            ]
            planes = [
                ndimage.map_coordinates(p, [y + moves[1], x + moves[0]], order=1, mode="reflect")
                for p in planes
            ]
        literal.append(255 * np.stack(planes, 2))
    assert_close(made, np.stack(literal))


def test_pixelate_averages_blocks_where_the_share_divides_the_side():
    images = pictures(64)
    made = corrupt(images, IDS, "pixelate", 5, scale=PLAIN[TINY.name])  # half the side
    blocks = images.reshape(3, 32, 2, 32, 2, 3).mean((2, 4))
    literal = np.repeat(np.repeat(blocks, 2, 1), 2, 2)
    assert np.abs(made - literal).max() <= 1  # Pillow rounds after either axis


def test_jpeg_is_pillows():
    images, made, (quality,), _ = both("jpeg", 5)
    for image, corrupted in zip(images, made, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        assert np.array_equal(np.asarray(Image.open(buffer)), corrupted)
