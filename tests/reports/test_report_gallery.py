"""Thumbnails and the groups of a map's legend."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from coview.reports.gallery import MAX_GROUPS, _dots, group_labels, shape_path
from coview.reports.pictures import image_uri, picture_uri


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_image_uri_keeps_the_picture() -> None:
    pixels = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    image = decoded(image_uri(pixels))
    assert image.shape == pixels.shape
    assert np.abs(image.astype(int) - pixels).mean() < 3


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_picture_uri_keeps_a_small_png_as_it_is() -> None:
    content = png(np.zeros((4, 6, 3), dtype=np.uint8))
    uri, width, height = picture_uri(content) or ("", 0, 0)
    assert base64.b64decode(uri.split(",")[1]) == content
    assert (width, height) == (6, 4)


def test_picture_uri_shrinks_a_large_png() -> None:
    content = png(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8))
    uri, width, height = picture_uri(content) or ("", 0, 0)
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < len(content)
    assert (width, height) == (900, 900)


def test_picture_uri_refuses_what_is_no_picture() -> None:
    assert picture_uri(b"<svg onload=alert(1)>") is None
    assert picture_uri(png(np.zeros((64, 64, 3), dtype=np.uint8))[:60]) is None


def test_group_labels_follow_the_classes() -> None:
    groups, titles = group_labels(np.array([2, 0, 2, -1]), ["cat", "dog", "owl"])
    assert titles == ["cat", "owl", "without a label"]
    assert groups.tolist() == [1, 0, 1, 2]


def test_group_labels_keep_the_frequent_classes() -> None:
    labels = np.repeat(np.arange(40), np.arange(40, 0, -1))
    groups, titles = group_labels(labels, [])
    assert titles == [
        *(f"class {k}" for k in range(MAX_GROUPS)),
        f"{40 - MAX_GROUPS} other classes",
    ]
    assert (groups == np.minimum(labels, MAX_GROUPS)).all()


def test_group_labels_without_any_label_are_one_group() -> None:
    groups, titles = group_labels(np.full(3, -1), [])
    assert groups.tolist() == [0, 0, 0]
    assert titles == ["images"]


def test_other_classes_have_a_mark_of_their_own() -> None:
    marks = {group: shape_path(group, 9, 9) for group in range(MAX_GROUPS + 2)}
    assert len({marks[group] for group in (0, 7, 14, MAX_GROUPS, MAX_GROUPS + 1)}) == 5
    points = np.zeros((1, 2))
    classes = {str(_dots(points, group)).split('class="')[1].split('"')[0] for group in marks}
    assert classes == {"points others", *(f"points c{color}" for color in range(7))}


def test_shape_path_differs_where_the_color_repeats() -> None:
    commands = {"".join(c for c in shape_path(g, 9, 9) if c.isalpha()) for g in (0, 7, 14)}
    assert len(commands) == 3
