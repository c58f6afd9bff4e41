"""The built-in scenes: keyed, balanced, the same everywhere, and hard for pixels and colors."""

from __future__ import annotations

import time

import numpy as np
import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.core.files import digest
from coview.core.images import ImageStore
from coview.data.scenes import CLASS_NAMES, KINDS, SceneFactors, make_scenes, scene_factors
from coview.data.scenes.kinds import fold

FACTORS = [
    "kind",
    "position",
    "scale",
    "rotation",
    "phase",
    "light_direction",
    "brightness",
    "hue",
    "tone",
    "background",
    "clutter",
]


def images_of(store: ImageStore) -> np.ndarray:
    """uint8 [N, H, W, 3] of a store of equal sizes."""
    return np.stack([store.image(row) for row in range(len(store))])


def nearest_accuracy(known: ImageStore, asked: ImageStore, describe, k: int = 10) -> float:
    """Plain k-nearest-neighbors with the Euclidean distance, by brute force."""
    bank, queries = describe(images_of(known)), describe(images_of(asked))
    bank, queries = bank - bank.mean(axis=0), queries - bank.mean(axis=0)
    squared = (bank**2).sum(axis=1)[None] - 2 * queries @ bank.T
    rows = np.argpartition(squared, k, axis=1)[:, :k]
    votes = np.eye(10)[known.labels[rows]].sum(axis=1)
    return float((votes.argmax(axis=1) == asked.labels).mean())


def flat_pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def centered_pixels(images: np.ndarray) -> np.ndarray:
    """Each image without its mean and of length one: the squared distance is then a cosine."""
    flat = flat_pixels(images)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def color_histogram(images: np.ndarray) -> np.ndarray:
    """Square root of the counts over 8 x 8 x 8 colors (Euclidean distance is Hellinger's)."""
    codes = (images.astype(np.int64) >> 5) @ np.array([64, 8, 1])
    return np.stack([np.sqrt(np.bincount(code.ravel(), minlength=512)) for code in codes])


def gray_histogram(images: np.ndarray) -> np.ndarray:
    codes = (images @ np.array([0.299, 0.587, 0.114]) / 8).astype(np.int64)
    return np.stack([np.sqrt(np.bincount(code.ravel(), minlength=32)) for code in codes])


@pytest.fixture(scope="module")
def train() -> ImageStore:
    return make_scenes(2000)


@pytest.fixture(scope="module")
def test() -> ImageStore:
    return make_scenes(500, split="test")


@pytest.fixture(scope="module")
def factors() -> SceneFactors:
    return scene_factors(5000)


def test_scenes_same_seed_same_bytes() -> None:
    assert digest(make_scenes(40).pixels.data) == digest(make_scenes(40).pixels.data)


def test_scenes_other_seed_other_images() -> None:
    a, b = make_scenes(10), make_scenes(10, seed=1)
    assert not np.array_equal(a.pixels, b.pixels)
    assert not set(a.ids.tolist()) & set(b.ids.tolist())


def test_scenes_large_seed_differs_from_its_low_word() -> None:
    assert not np.array_equal(make_scenes(10, seed=1 << 32).pixels, make_scenes(10).pixels)


def test_scenes_image_does_not_depend_on_count() -> None:
    few, many = make_scenes(37), make_scenes(83)
    assert np.array_equal(few.pixels, many.pixels[: len(few.pixels)])
    assert np.array_equal(few.ids, many.ids[:37])
    assert np.array_equal(few.labels, many.labels[:37])


def test_scenes_factors_do_not_depend_on_count(factors: SceneFactors) -> None:
    few = scene_factors(123)
    for name in FACTORS:
        assert np.array_equal(getattr(few, name), getattr(factors, name)[:123]), name


def test_scenes_splits_share_no_image_and_no_id(train: ImageStore, test: ImageStore) -> None:
    assert not set(train.ids.tolist()) & set(test.ids.tolist())
    seen = {image.tobytes() for image in images_of(train)}
    assert len(seen) == len(train)
    assert not seen & {image.tobytes() for image in images_of(test)}


def test_scenes_split_changes_every_factor(factors: SceneFactors) -> None:
    other = scene_factors(5000, split="test")
    for name in FACTORS:
        assert not np.array_equal(getattr(factors, name), getattr(other, name)), name


@pytest.mark.parametrize("size", [8, 32, 33, 96])
def test_scenes_size_is_the_side(size: int) -> None:
    store = make_scenes(3, size)
    assert store.image(2).shape == (size, size, 3)
    assert store.pixels.shape == (3 * size * size, 4)
    assert set(store.heights.tolist()) == set(store.widths.tolist()) == {size}


def test_scenes_larger_size_shows_the_same_scene() -> None:
    small, large = make_scenes(100, 32), make_scenes(100, 96)
    assert np.array_equal(small.ids, large.ids)
    shrunk = images_of(large).reshape(100, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    difference = np.abs(shrunk - images_of(small)).mean(axis=(1, 2, 3))
    assert difference.max() < 12


def test_scenes_labels_are_balanced_in_every_ten(train: ImageStore) -> None:
    blocks = np.sort(train.labels.reshape(-1, 10), axis=1)
    assert np.array_equal(blocks, np.tile(np.arange(10), (len(blocks), 1)))
    assert len(np.unique(train.labels.reshape(-1, 10), axis=0)) > 100


def test_scenes_labels_are_the_kinds(train: ImageStore) -> None:
    assert np.array_equal(train.labels, scene_factors(2000).kind)


def test_scenes_class_names_are_ten_and_different(train: ImageStore) -> None:
    assert train.class_names == CLASS_NAMES == tuple(kind.name for kind in KINDS)
    assert len(set(CLASS_NAMES)) == 10


def test_scenes_ids_are_stable(train: ImageStore) -> None:
    assert train.names[17] == "scenes/train/0/000017"
    assert train.ids[:2].tolist() == [-7201228901464685800, 6134186661565423368]
    assert len(set(train.ids.tolist())) == len(train)


def test_scenes_source_names_the_split(train: ImageStore, test: ImageStore) -> None:
    assert (train.source, test.source) == ("scenes:train", "scenes:test")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("position", -0.5, 0.5), ("scale", 0.7, 1.05), ("rotation", -np.pi / 8, np.pi / 8),
        ("phase", -0.5, 0.5), ("light_direction", 0, 2 * np.pi), ("brightness", 0.85, 1.1),
        ("hue", 0, 1),
    ],
)  # fmt: skip
def test_scenes_factor_fills_its_range(
    factors: SceneFactors, name: str, low: float, high: float
) -> None:
    values, slack = getattr(factors, name), 0.01 * (high - low)
    assert low <= values.min() < low + slack
    assert high - slack < values.max() <= high * (1 + 1e-6)


def test_scenes_marks_and_surface_contrast(factors: SceneFactors) -> None:
    surface, marks, _ = factors.tone.T
    assert np.abs(surface - marks).min() > 0.5
    assert 0.4 < (surface < marks).mean() < 0.6


def test_scenes_nuisances_say_nothing_about_the_kind(factors: SceneFactors) -> None:
    nuisances = np.concatenate(
        [getattr(factors, name).reshape(5000, -1) for name in FACTORS if name != "kind"], axis=1
    )
    spread = nuisances.std(axis=0) / np.sqrt(500)
    for kind in range(10):
        offset = nuisances[factors.kind == kind].mean(axis=0) - nuisances.mean(axis=0)
        assert np.abs(offset / spread).max() < 4.5


@pytest.mark.parametrize("silhouette", [kind.silhouette for kind in KINDS], ids=CLASS_NAMES)
def test_scenes_silhouette_lies_in_the_unit_circle(silhouette) -> None:
    line = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    u, v = np.meshgrid(line, line)
    inside = silhouette(u, v) < 0
    assert np.hypot(u, v)[inside].max() < 1.08
    assert 0.25 < inside.mean() * 9 / np.pi < 0.8


@pytest.mark.parametrize("pattern", [kind.pattern for kind in KINDS], ids=CLASS_NAMES)
def test_scenes_pattern_marks_and_spares_the_surface(pattern) -> None:
    line = np.linspace(-0.9, 0.9, 301, dtype=np.float32)
    u, v = np.meshgrid(line, line)
    assert 0.15 < (pattern(u, v) < 0).mean() < 0.85


@pytest.mark.parametrize("sectors", [2, 3, 5, 6, 7, 10])
def test_scenes_fold_agrees_with_the_polar_angle(sectors: int) -> None:
    angle = np.linspace(-np.pi, np.pi, 1001)
    u, v = fold(np.cos(angle), np.sin(angle), sectors)
    width = 2 * np.pi / sectors
    folded = np.abs((angle + width / 2) % width - width / 2)
    np.testing.assert_allclose(np.arctan2(v, u), folded, atol=1e-9)


@pytest.mark.parametrize("describe", [flat_pixels, color_histogram, gray_histogram])
def test_scenes_pixels_and_colors_classify_poorly(
    train: ImageStore, test: ImageStore, describe
) -> None:
    assert nearest_accuracy(train, test, describe) < 0.45


def test_scenes_draw_in_seconds() -> None:
    start = time.process_time()
    make_scenes(2000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "`count` .* is 0"),
        ({"size": 7}, "`size` .* is 7"),
        ({"seed": -1}, "`seed` .* is -1"),
    ],
)
def test_scenes_refuses_values_out_of_range(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        make_scenes(**{"count": 10, **arguments})


def test_scenes_refuses_an_unknown_split_and_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        make_scenes(10, split="trian")
