"""Labels of one class are said before a run that learns from labels."""

import numpy as np
import pytest

from coview.core.errors import DataError
from coview.core.images import store_from_arrays
from coview.planning.classes import about_classes, alone_share
from coview.recipes import change, recipe


def store(*labels):
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    return store_from_arrays(images, labels=np.array(labels), class_names=("ant", "bee"))


@pytest.mark.parametrize(("labels", "found"), [((0, 0, -1), "one class, ant"), ((-1,), "a label")])
def test_supervised_learning_of_one_class_is_refused(labels, found):
    with pytest.raises(DataError, match=f"{found}.*two or more"):
        about_classes(recipe("supervised-cpu"), store(*labels))


def test_supcon_of_one_class_is_said_and_of_two_it_is_not():
    assert about_classes(recipe("supcon-cpu"), store(1, 1))
    assert about_classes(recipe("supcon-cpu"), store(0, 1)) == ()
    assert about_classes(recipe("simclr-cpu"), store(0, 0)) == ()


def classes_of(count, images_each):
    labels = np.arange(count).repeat(images_each)
    names = tuple(f"class {place}" for place in range(count))
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return store_from_arrays(images, labels=labels, class_names=names)


def test_supcon_of_many_classes_is_told_that_images_are_alone_in_a_batch():
    many, few = classes_of(200, 5), classes_of(10, 100)
    supcon = change(recipe("supcon-cpu"), batch_size=128)
    (note,) = about_classes(supcon, many)
    assert "128 about 53% of the labeled images are the only one of their class" in note
    assert "`classes_per_batch` 32 draws 4 images of each of 32 classes" in note
    (rare,) = about_classes(supcon, classes_of(2000, 1))
    assert rare.endswith("A larger `batch_size` has more of each class.")
    assert about_classes(supcon, few) == ()
    assert about_classes(change(supcon, classes_per_batch=32), many) == ()
    for name in ("supervised-cpu", "simclr-cpu"):
        assert about_classes(change(recipe(name), batch_size=128), many) == ()


def test_images_that_are_alone_are_as_many_as_random_batches_have():
    labels = np.repeat(np.arange(30), np.arange(1, 31))
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        batch = labels[generator.permutation(len(labels))[:16]]
        counts = np.bincount(batch)
        found.append((counts == 1).sum() / 16)
    share = alone_share(np.arange(1, 31), len(labels), 16)
    assert share == pytest.approx(np.mean(found), abs=0.03)
