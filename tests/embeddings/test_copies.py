"""Known copies are found with the right words; other images before the same background are not."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from coview.core.images import ImageStore, store_from_arrays
from coview.embeddings import alignment, candidates
from coview.embeddings.duplicates import (
    Pair,
    exact_groups,
    find_pairs,
    group_column,
    group_pairs,
)
from coview.embeddings.signatures import SIDE, signatures


def picture(seed, height=96, width=128):
    """A colored field with edges, unlike that of every other seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    for _ in range(6):
        top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
        image[top : top + rng.integers(8, 20), left : left + rng.integers(8, 20)] = rng.integers(
            0, 256, 3
        )
    return image


def jpeg(image, quality=60):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image, scale):
    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def marked(image):
    image = image.copy()
    image[40:50, 30:60] = image[40:50, 30:60] * 0.6 + 100
    return image


COPIES = {
    "re-encoded": jpeg,
    "resized": lambda image: resized(image, 0.5),
    "cropped to 9": lambda image: image[3:, :-6],
    "cropped to 8": lambda image: image[9:, 6:-6],
    "cropped to 6": lambda image: image[19:, :-25],
    "flipped": lambda image: image[:, ::-1],
    "of another brightness": lambda image: (image * 0.7).astype(np.uint8),
    "without color": lambda image: np.asarray(Image.fromarray(image).convert("L").convert("RGB")),
    "flipped, cropped to": lambda image: image[5:-5, :-13][:, ::-1],
    "changed in": marked,
}


@pytest.fixture(scope="module")
def others():
    return [picture(seed) for seed in range(40)]


def pairs_of(images, **options):
    store = store_from_arrays(images)
    sizes = np.stack([store.heights, store.widths], axis=1)
    return find_pairs(signatures(store), exact=exact_groups(store), sizes=sizes, **options)


@pytest.mark.parametrize("words", COPIES)
def test_a_copy_is_found_and_named(words, others):
    copy = jpeg(COPIES[words](others[7]), 90)
    (pair,) = pairs_of([*others, copy])
    assert (pair.first, pair.second) == (7, 40)
    assert pair.kind.startswith(words) or f", {words}" in pair.kind
    assert 0.75 <= pair.similarity < 1


def test_different_things_on_one_background_are_no_copies():
    """Their thumbnails agree in what the background gives them."""
    rng = np.random.default_rng(0)
    light = np.linspace(110, 150, 128)[None, :, None]
    images = []
    for seed in range(12):
        cloth = np.clip(light + rng.normal(0, 6, (96, 128, 3)), 0, 255)
        cloth[20:80, 30:100] = 0.3 * picture(seed)[20:80, 30:100] + 150
        images.append(np.clip(cloth, 0, 255).astype(np.uint8))
    small = np.stack([np.asarray(Image.fromarray(i).resize((16, 16))) for i in images])
    flat = small.reshape(12, -1) - small.reshape(12, -1).mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert np.median(flat @ flat.T) > 0.8
    assert pairs_of(images) == []
    assert len(pairs_of([*images, jpeg(images[3], 80)])) == 1


def test_flat_and_tiny_images_are_compared_by_their_hash_alone():
    flat = [np.full((9, 9, 3), level, np.uint8) for level in (10, 10, 11)]
    tiny = [np.zeros((1, 1, 3), np.uint8), np.ones((1, 7, 3), np.uint8)]
    (pair,) = pairs_of([*flat, *tiny])
    assert (pair.first, pair.second, pair.kind) == (0, 1, "identical pixels")
    assert pairs_of(tiny[:1]) == []


def test_every_copy_of_many_is_in_one_group(others):
    images = [
        *others,
        *[others[3]] * 5,
        *[jpeg(others[3], quality) for quality in range(50, 90, 2)],
    ]
    pairs = pairs_of(images)
    (group,) = group_pairs(len(images), pairs)
    assert group.rows == (3, *range(40, 65))


def test_signatures_are_made_by_threads_and_are_those_of_each_image(others, monkeypatch):
    store, threads, counts = store_from_arrays(others), set(), []
    window = ImageStore.window

    def named(self, rows):
        threads.add(threading.current_thread().name)
        return window(self, rows)

    monkeypatch.setattr(ImageStore, "window", named)
    together = signatures(store, counts.append)
    assert all(name.startswith("coview-signatures") for name in threads)
    assert sum(counts) == len(others)
    for row in range(len(others)):
        alone = signatures(store.subset(np.array([row])))
        np.testing.assert_array_equal(together.gray[row], alone.gray[0])
        np.testing.assert_array_equal(together.tints[row], alone.tints[0])


def test_candidates_do_not_depend_on_the_chunk(others, monkeypatch):
    gray = signatures(store_from_arrays([*others, others[5][:, ::-1], others[6][8:, 8:]])).gray
    whole = candidates.find_candidates(gray, threshold=0.3)
    monkeypatch.setattr(candidates, "CHUNK", 7)
    parts = candidates.find_candidates(gray, threshold=0.3)
    assert len(whole) > 10
    assert sorted(zip(whole.first, whole.second, strict=True)) == sorted(
        zip(parts.first, parts.second, strict=True)
    )


def test_candidates_are_those_of_a_plain_loop(others):
    """Every image against every window of every other, one cosine at a time."""
    gray = signatures(store_from_arrays(others[:12])).gray
    whitening = candidates._Whitening.of(gray)
    grid = candidates.window_grid()
    expected = set()
    for first in range(12):
        for window in grid:
            for flip in (False, True):
                spectrum = candidates._spectrum(gray[first : first + 1], window)
                if flip:
                    spectrum = spectrum * (-1.0) ** np.arange(8)
                query = whitening.project(spectrum.astype(np.float32))[0]
                for second in range(12):
                    whole = candidates._spectrum(gray[second : second + 1], (0, 1, 0, 1))
                    if first != second and query @ whitening.project(whole)[0] > 0.35:
                        expected.add((min(first, second), max(first, second)))
    found = candidates.find_candidates(gray, threshold=0.35, best=99)
    ordered = zip(found.first.tolist(), found.second.tolist(), strict=True)
    assert {(min(pair), max(pair)) for pair in ordered} == expected
    assert expected


def test_of_many_copies_the_best_hits_of_all_variants_are_kept_and_no_others(others, monkeypatch):
    """What stays is what a choice among all hits at once gives; memory holds a few of each image."""
    rng = np.random.default_rng(0)
    noisy = [np.clip(others[3] + rng.integers(-9, 10, others[3].shape), 0, 255) for _ in range(40)]
    same = [others[4]] * 9  # equal cosines
    images = [image.astype(np.uint8) for image in [*noisy, *same, *others[:12]]]
    gray = signatures(store_from_arrays(images)).gray
    whitening, grid = candidates._Whitening.of(gray), candidates.window_grid()
    bank = whitening.project(candidates._spectrum(gray, (0, 1, 0, 1)))
    hits = []
    for variant in range(2 * len(grid)):
        spectrum = candidates._spectrum(gray, grid[variant % len(grid)])
        spectrum[:, :, 1::2] *= -1 if variant >= len(grid) else 1
        cosines = whitening.project(spectrum) @ bank.T
        np.fill_diagonal(cosines, -1)
        first, second = np.nonzero(cosines > -0.5)
        hits.append((first, second, cosines[first, second], np.full(len(first), variant)))
    every = tuple(np.concatenate(each) for each in zip(*hits, strict=True))
    expected = candidates._best(every, 5)
    counts, best_of = [], candidates._best

    def counted(hits, best):
        counts.append(len(hits[0]))
        return best_of(hits, best)

    monkeypatch.setattr(candidates, "_best", counted)
    rows = np.arange(len(gray))
    found = candidates._best_hits(gray, rows, bank, whitening, grid, -0.5, 5)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(every[0]) > 40 * max(counts)
    assert max(counts) <= 2 * 5 * len(gray)


def test_the_spectrum_is_the_cosine_transform_of_cell_means():
    from scipy.fft import dctn

    gray = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE)).astype(np.uint8)
    cells = gray.reshape(3, 16, 4, 16, 4).mean(axis=(2, 4))
    expected = dctn(cells, axes=(1, 2), norm="ortho")[:, :8, :8]
    assert np.allclose(candidates._spectrum(gray, (0, 1, 0, 1)), expected, atol=0.02)


@pytest.mark.parametrize("flip", [False, True])
def test_the_alignment_finds_the_window(flip):
    """A window of known place, cut from a large picture and brought to one size."""
    large = Image.fromarray(picture(5, 640, 640)).convert("L")
    window = np.array([0.07, 0.85, 0.11, 0.82])
    top, height, left, width = window * 640
    part = large.crop((round(left), round(top), round(left + width), round(top + height)))
    whole = large.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else large
    gray = np.stack([np.asarray(image.resize((SIDE, SIDE))) for image in (whole, part)])
    found = np.array([[0.1, 0.8, 0.1, 0.8]])
    figures = np.zeros((1, alignment.FIGURES), np.float32)
    alignment.compare_pairs(
        gray, np.zeros((2, 16, 16, 2), np.int8), np.array([0]), np.array([1]), np.array([flip]),
        found, figures,
    )  # fmt: skip
    assert found[0] == pytest.approx(window, abs=0.01)
    assert figures[0, alignment.SIMILARITY] > 0.9


def test_an_encoder_gives_candidates_that_pixels_judge(others):
    """A crop of half the image, which no window of the grid is near to; the vectors know it."""
    crop = others[7][20:80, 30:105]
    images = [*others, crop]
    assert pairs_of(images) == []
    vectors = np.random.default_rng(0).normal(size=(41, 16)).astype(np.float32)
    vectors[40] = vectors[7]
    vectors[11] = vectors[12]
    (pair,) = pairs_of(images, vectors=vectors)
    assert (pair.first, pair.second) == (7, 40)


def test_groups_are_ordered_by_what_is_wrong_with_them():
    def pair(first, second, similarity):
        return Pair(first=first, second=second, similarity=similarity, kind="")

    pairs = [pair(0, 1, 1.0), pair(2, 3, 0.9), pair(4, 5, 0.7), pair(5, 6, 0.8), pair(7, 8, 0.99)]
    labels = np.array([0, 0, 0, -1, 0, 0, 1, 2, 2, 2])
    parts = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    groups = group_pairs(10, pairs, labels=labels, parts=parts)
    assert [group.rows for group in groups] == [(4, 5, 6), (2, 3), (0, 1), (7, 8)]
    assert [group.contradicts for group in groups] == [True, False, False, False]
    assert [group.leaks for group in groups] == [False, True, False, False]
    assert groups[0].similarity == 0.8
    best = groups[0].best_pairs()
    assert {row: pair.similarity for row, pair in best.items()} == {4: 0.7, 5: 0.8, 6: 0.8}
    assert group_column(10, groups).tolist() == [3, 3, 2, 2, 1, 1, 1, 4, 4, 0]
    assert group_pairs(4, []) == []
