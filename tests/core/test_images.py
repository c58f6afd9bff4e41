from dataclasses import replace

import numpy as np

from coview.core.images import image_id, pixel_hash, store_from_arrays


def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((2, 3), (5, 1), (4, 4))]


def test_images_of_any_sizes_come_back_as_they_went_in():
    store = store_from_arrays(images())
    assert all((store.image(row) == image).all() for row, image in enumerate(images()))


def test_a_subset_shares_pixels_and_keeps_ids():
    store = store_from_arrays(images(), labels=np.array([7, 8, 9]))
    part = store.subset(np.array([2, 0]))
    assert np.shares_memory(part.image(0), store.image(2))
    assert (part.image(0) == images()[2]).all()
    assert part.ids.tolist() == store.ids[[2, 0]].tolist()
    assert part.labels.tolist() == [9, 7]


def test_a_window_has_the_pixels_of_its_rows_in_their_order_without_a_copy():
    store, rows = store_from_arrays(images()), [2, 0, 2]
    window = store.window(np.array(rows))
    assert len(window) == 3
    for k, row in enumerate(rows):
        shape = int(window.heights[k]), int(window.widths[k])
        pixels = window.pixels[window.starts[k] :][: shape[0] * shape[1], :3]
        assert (pixels.reshape(*shape, 3) == images()[row]).all()
    assert np.shares_memory(window.pixels, store.image(0))
    assert not window.pixels.flags.writeable
    assert window.pixels.flags.c_contiguous
    assert store.image(0).flags.writeable


def test_a_subset_keeps_the_notes():
    store = replace(store_from_arrays(images()), notes=("Ignored 1 file.",))
    assert store.subset(np.array([1])).notes == store.notes


def test_ids_are_stable_across_versions():
    # Written down once: a change would give every image of every user other views.
    assert image_id("cats/1.jpg") == -5028814578785424323


def test_hash_of_pixels_is_that_of_a_slow_loop_and_never_changes():
    rng = np.random.default_rng(3)
    constants = [int(c) | 1 for c in np.random.PCG64(0).random_raw(1 << 14)]
    for length in (0, 4, 8, 12, 8 << 14, (8 << 15) + 12):
        content = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        words = [int.from_bytes(content[i : i + 8], "little") for i in range(0, length // 8 * 8, 8)]
        value = int.from_bytes(content[length // 8 * 8 :], "little") + length
        for start in range(0, len(words), 1 << 14):
            pairs = zip(words[start : start + (1 << 14)], constants, strict=False)
            value = (value * 0x9E3779B97F4A7C15 + sum(w * c for w, c in pairs)) % 2**64
        assert pixel_hash(content) % 2**64 == value
    assert pixel_hash(bytes(range(16))) == -3253513574054559144  # stored in caches and in run.json


def test_fingerprint_tells_one_pixel_from_another():
    changed = images()
    changed[1][4, 0, 2] ^= 1
    assert store_from_arrays(changed).fingerprint != store_from_arrays(images()).fingerprint


def test_fingerprint_tells_other_data():
    store = store_from_arrays(images())
    assert store.fingerprint == store_from_arrays(images()).fingerprint
    assert store.fingerprint != store.subset(np.array([0, 1])).fingerprint
