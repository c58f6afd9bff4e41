"""Cluttered scenes: the labeled object between others, and the plain scenes as they were."""

import numpy as np
import pytest

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.data import open_images
from coview.data.scenes import KINDS, cluttered_factors, make_scenes, scene_factors
from coview.data.spec import DataSpec, name_of


def images_of(store):
    return np.stack([store.image(row) for row in range(len(store))])


def test_plain_scenes_have_the_bytes_that_they_had():
    assert digest(make_scenes(40).pixels.data) == PLAIN[32]
    assert digest(make_scenes(12, 48, seed=3, split="test").pixels.data) == PLAIN[48]


PLAIN = {32: "83e7787183ba9631a729c627505d7ff8", 48: "0e9309cc7bfe42d9edbf2465ad50e1ad"}


def test_labels_are_those_of_the_object_on_top_and_as_in_plain_scenes():
    store = open_images("scenes:clutter", limit=200, labels_from="auto")
    assert np.array_equal(store.labels, scene_factors(200).kind)
    main, others = cluttered_factors(200)
    assert len(others) == 3
    for other in others:
        assert (other.kind != main.kind).all()
        assert set(other.kind.tolist()) == set(range(len(KINDS)))
        assert other.scale.max() < main.scale.min()
    kinds = np.stack([other.kind for other in others])
    assert (kinds[0] != kinds[1]).any()


def test_a_cluttered_scene_is_keyed_by_seed_split_and_place():
    few, many = make_scenes(7, clutter=True), make_scenes(23, clutter=True)
    assert np.array_equal(few.pixels, many.pixels[: len(few.pixels)])
    assert np.array_equal(few.ids, many.ids[:7])
    other = make_scenes(7, clutter=True, seed=1)
    assert not np.array_equal(few.pixels, other.pixels)
    assert not set(few.ids.tolist()) & set(make_scenes(7).ids.tolist())
    test = open_images("scenes:clutter:test", limit=7)
    assert np.array_equal(test.pixels, make_scenes(7, clutter=True, split="test").pixels)
    assert np.array_equal(test.pixels, open_images("scenes:clutter", limit=7, split="test").pixels)
    spec = DataSpec.of("scenes:clutter", limit=7)
    assert np.array_equal(DataSpec.from_json(spec.to_json()).tests().open().ids[:7], test.ids)
    assert name_of("scenes:clutter") == "scenes-clutter"
    with pytest.raises(InvalidValue):
        make_scenes(0, clutter=True)


def test_a_larger_size_shows_the_same_cluttered_scene():
    small, large = make_scenes(60, 32, clutter=True), make_scenes(60, 96, clutter=True)
    shrunk = images_of(large).reshape(60, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - images_of(small)).mean(axis=(1, 2, 3)).max() < 14


def test_the_labeled_object_is_painted_over_the_others():
    """Within it a scene looks as if only its ground had been changed: not at all."""
    from dataclasses import replace

    from coview.data.scenes.paint import paint_cluttered

    main, others = cluttered_factors(30)
    inside = np.zeros((30, 32, 32), bool)
    for row in range(30):
        near = np.hypot(
            *(np.mgrid[0:32, 0:32][::-1] / 16 - 1 + 1 / 32 - main.position[row][:, None, None])
        )
        inside[row] = near < 0.2 * main.scale[row]
    full = inside & ~np.isin(main.kind, [6, 9])[:, None, None]  # crescent and ring are open inside
    moved = [replace(other, position=-other.position) for other in others]
    first, second = (paint_cluttered(main, each, 32).astype(int) for each in (others, moved))
    assert (first != second).any(axis=3)[~inside].mean() > 0.1
    assert np.array_equal(first[full], second[full])


def test_objects_cover_much_of_the_ground_and_the_labeled_one_less():
    main, others = cluttered_factors(500)
    plain = scene_factors(500)
    assert main.scale.max() <= 0.7 <= plain.scale.min()
    assert np.array_equal(main.position, plain.position)
    assert (main.clutter[:, :, 2] > 0).sum(axis=1).mean() > 4
    for other in others:
        assert np.abs(other.position).max() <= 0.85
        assert np.array_equal(other.light_direction, main.light_direction)
