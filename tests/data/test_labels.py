"""Label subsets: balanced, nested, seeded."""

import numpy as np
import pytest

from coview.core.errors import DataError, InvalidValue
from coview.core.images import store_from_arrays
from coview.data.labels import label_subset


def store(counts, unlabeled=0):
    labels = np.concatenate(
        [np.full(n, c) for c, n in enumerate(counts)] + [np.full(unlabeled, -1)]
    )
    images = np.zeros((len(labels), 2, 2, 3), dtype=np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    names = tuple("abcdefgh"[: len(counts)])
    return store_from_arrays(images, labels=labels[order].astype(np.int64), class_names=names)


def counts_of(images, rows):
    return np.bincount(images.labels[rows], minlength=len(images.class_names)).tolist()


def test_one_percent_lies_within_ten_and_both_are_balanced():
    images = store([700, 700, 700, 700])
    one, ten, all_rows = (label_subset(images, f"{p}%") for p in (1, 10, 100))
    assert counts_of(images, one) == [7] * 4
    assert counts_of(images, ten) == [70] * 4
    assert set(one) < set(ten) < set(all_rows)
    assert all_rows.tolist() == list(range(2800))


def test_imagenet_sized_classes_give_twelve_or_thirteen():
    """As the published lists of 1 % do: 12 or 13 images of a class."""
    images = store([1300, 1281, 1250, 1300])
    assert set(counts_of(images, label_subset(images, "1%"))) <= {12, 13}
    assert len(label_subset(images, "1%")) == round(0.01 * 5131)


@pytest.mark.parametrize("labels", [[1, 2, 3, 5, 8, 13, 21, 34, 60, 100]])
def test_every_subset_lies_within_the_next_also_of_unequal_classes(labels):
    images, before = store([3, 40, 11, 90]), set()
    for share in labels:
        try:
            rows = set(label_subset(images, f"{share}%", draw=4).tolist())
        except DataError:
            assert share * 1.44 < 4
            continue
        assert before <= rows
        assert len(rows) == round(share / 100 * 144)
        counts = counts_of(images, sorted(rows))
        unfinished = [c for c, n in zip(counts, (3, 40, 11, 90), strict=True) if c < n]
        assert not unfinished or max(counts) - min(unfinished) <= 1
        before = rows


def test_a_number_of_each_class_takes_all_of_small_classes():
    images = store([3, 40, 11])
    assert counts_of(images, label_subset(images, "25-per-class")) == [3, 25, 11]


def test_draws_differ_and_are_the_same_again():
    images = store([100, 100])
    first, again, other = (label_subset(images, "10%", draw=d) for d in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert set(first) != set(other)


def test_an_image_keeps_its_place_when_others_are_added():
    small, large = store([50, 50]), store([50, 50])
    rows = label_subset(small, "10-per-class")
    names = {small.names[r] for r in rows}
    keep = np.array([r for r in range(len(large)) if r % 9 or large.names[r] in names])
    part = large.subset(keep)
    assert {part.names[r] for r in label_subset(part, "10-per-class")} == names


def test_unlabeled_images_do_not_count():
    images = store([50, 50], unlabeled=900)
    assert len(label_subset(images, "100%")) == 100


def test_names_from_a_file(tmp_path):
    images = store([5, 5])
    path = tmp_path / "names.txt"
    path.write_text(f"{images.names[3]}\n\n{images.names[1]}\n{images.names[3]}\n")
    assert label_subset(images, str(path)).tolist() == [1, 3]
    path.write_text("nosuch.jpg\n")
    with pytest.raises(DataError, match="names 1 images that are not among the labeled ones"):
        label_subset(images, str(path))


@pytest.mark.parametrize("labels", ["ten", "0%", "101%", "-5%", "1.5"])
def test_other_words_are_refused(labels):
    with pytest.raises(InvalidValue, match="`labels` is"):
        label_subset(store([5, 5]), labels)


def test_fewer_labels_than_classes_are_refused():
    with pytest.raises(DataError, match="are 1 labels for 2 classes"):
        label_subset(store([50, 50]), "1%")
