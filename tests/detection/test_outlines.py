"""Outlines as pixels beside a literal test of every pixel, and run lengths beside pycocotools."""

import warnings

import numpy as np
import pytest

from coview.core.errors import DataError
from coview.data.outlines import decode_rle, encode_rle, fill_outline, fill_polygon


def inside(x, y, points):
    """The even-odd rule, edge by edge."""
    odd = False
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


@pytest.mark.parametrize("seed", range(5))
def test_a_polygon_has_the_pixels_whose_centers_it_holds(seed):
    points = np.random.default_rng(seed).uniform(-4, 24, (7, 2))
    expected = [[inside(x + 0.5, y + 0.5, points) for x in range(20)] for y in range(16)]
    assert np.array_equal(fill_polygon(points, (16, 20)), np.array(expected, np.uint8))


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_cocos(seed):
    tools = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(seed)
    mask = (generator.random((33, 47)) < (0.5, 0.05, 0.0, 1.0)[seed]).astype(np.uint8)
    rle = encode_rle(mask)
    assert rle == {
        "size": [33, 47],
        "counts": tools.encode(np.asfortranarray(mask))["counts"].decode(),
    }
    with warnings.catch_warnings():  # pycocotools and numpy 2
        warnings.simplefilter("ignore")
        assert np.array_equal(tools.decode(rle), mask)
    assert np.array_equal(decode_rle(rle), mask)


def test_run_lengths_as_numbers_and_at_another_size():
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    flat = mask.T.ravel()
    counts, value = [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    rle = {"size": [4, 6], "counts": counts}
    assert np.array_equal(decode_rle(rle), mask)
    assert np.array_equal(fill_outline(rle, (8, 12), (4, 6)), mask.repeat(2, 0).repeat(2, 1))
    with pytest.raises(DataError, match="run lengths"):
        decode_rle({"size": [5, 6], "counts": counts})


@pytest.mark.parametrize("size", [[-10, -10], [0, 4], [10**9, 10**9]])
def test_run_lengths_of_a_size_that_no_image_has(size):
    rle = {"size": size, "counts": [size[0] * size[1]]}
    with pytest.raises(DataError, match="its image of"):
        fill_outline(rle, (4, 4), (4, 4))
    if size[0] < 1:
        with pytest.raises(DataError, match="at least 1 x 1"):
            decode_rle(rle)


def test_several_polygons_are_one_object():
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    moved = [1, 1, 3, 1, 3, 3, 1, 3]
    assert fill_outline([square, moved], (4, 4), (4, 4)).sum() == 7
