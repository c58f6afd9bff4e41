import numpy as np

from coview.core.images import image_id, store_from_arrays


def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((2, 3), (5, 1), (4, 4))]


def test_images_of_any_sizes_come_back_as_they_went_in():
    store = store_from_arrays(images())
    assert all((store.image(row) == image).all() for row, image in enumerate(images()))


def test_a_subset_shares_pixels_and_keeps_ids():
    store = store_from_arrays(images(), labels=np.array([7, 8, 9]))
    part = store.subset(np.array([2, 0]))
    assert part.pixels is store.pixels
    assert (part.image(0) == images()[2]).all()
    assert part.ids.tolist() == store.ids[[2, 0]].tolist()
    assert part.labels.tolist() == [9, 7]


def test_ids_are_stable_across_versions():
    # Written down once: a change would give every image of every user other views.
    assert image_id("cats/1.jpg") == -5028814578785424323


def test_fingerprint_tells_other_data():
    store = store_from_arrays(images())
    assert store.fingerprint == store_from_arrays(images()).fingerprint
    assert store.fingerprint != store.subset(np.array([0, 1])).fingerprint
