"""Labels of one class are said before a run that learns from labels."""

import numpy as np
import pytest

from coview.core.errors import DataError
from coview.core.images import store_from_arrays
from coview.planning.classes import about_classes
from coview.recipes import recipe


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
