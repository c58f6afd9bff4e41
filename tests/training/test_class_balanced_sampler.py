"""Batches of P classes x K images."""

import numpy as np
import pytest
import torch

from coview.core.errors import InvalidValue
from coview.core.ranks import Ranks
from coview.training import BatchLoader
from coview.training.class_balanced_sampler import ClassBalancedSampler

DATA = {
    "equal": np.repeat(np.arange(10), 20),
    "unequal": np.repeat(np.arange(7), (5, 9, 14, 30, 22, 4, 17)),
    "one large": np.repeat(np.arange(5), (300, 8, 11, 9, 12)),
    "as few as allowed": np.repeat(np.arange(3), (4, 4, 4)),
    "long tail": np.repeat(np.arange(60), np.maximum(4, 400 // np.arange(1, 61))),
}


def ids_of(labels):
    return (np.arange(len(labels), dtype=np.int64) * 7919) % 100_003


def balanced(labels, classes=3, images=4, seed=0, shuffled=True):
    labels = labels.astype(np.int64)
    if shuffled:
        labels = labels[np.random.default_rng(1).permutation(len(labels))]
    sampler = ClassBalancedSampler(
        ids_of(labels), labels, classes=classes, images=images, seed=seed
    )
    return sampler, labels


def batches(sampler, epoch):
    return sampler.rows(epoch).reshape(sampler.steps_per_epoch, sampler.batch_size)


@pytest.mark.parametrize("name", DATA)
def test_every_batch_has_its_classes_and_as_many_different_images_of_each(name):
    sampler, labels = balanced(DATA[name])
    for epoch in range(12):
        for batch in batches(sampler, epoch):
            assert len(set(batch)) == 12
            names, counts = np.unique(labels[batch], return_counts=True)
            assert (len(names), *counts) == (3, 4, 4, 4)


@pytest.mark.parametrize("name", DATA)
def test_a_part_of_a_batch_sees_all_classes_alike(name):
    sampler, labels = balanced(DATA[name])
    for batch in batches(sampler, 3):
        assert len({tuple(labels[part]) for part in np.split(batch, 4)}) == 1


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("epochs", [1, 10, 50])
def test_images_of_one_class_are_used_equally_often(name, epochs):
    sampler, labels = balanced(DATA[name])
    used = np.zeros(len(labels), dtype=int)
    for epoch in range(epochs):
        used += np.bincount(sampler.rows(epoch), minlength=len(labels))
    for label in np.unique(labels):
        assert np.ptp(used[labels == label]) <= 1


@pytest.mark.parametrize("name", ["equal", "unequal", "as few as allowed"])
def test_classes_that_fit_are_used_equally_often_but_for_a_few_groups(name):
    sampler, labels = balanced(DATA[name])
    epochs = 100
    groups = sum(sampler.groups(epoch) for epoch in range(epochs))
    counts = np.bincount(labels)
    fair = counts * epochs * sampler.steps_per_epoch * 3 / len(labels)
    assert np.abs(groups - fair).max() <= 3
    assert sampler.steps_per_epoch == len(labels) // 12


def test_large_class_has_one_group_in_every_batch_and_the_others_are_used_once_an_epoch():
    sampler, labels = balanced(DATA["one large"])
    assert sampler.steps_per_epoch == 5  # 2 x 4 x 5 = 40 images of the small classes' 40
    for epoch in range(5):
        rows = sampler.rows(epoch)
        used = np.bincount(rows, minlength=len(labels))
        assert (labels[rows] == 0).sum() == 4 * 5
        assert used.max() <= 2
        assert used[labels != 0].sum() == 40


def test_epochs_differ_and_follow_from_the_seed_alone():
    sampler, _ = balanced(DATA["unequal"])
    again, _ = balanced(DATA["unequal"])
    other, _ = balanced(DATA["unequal"], seed=1)
    assert np.array_equal(sampler.rows(7), again.rows(7))  # no epoch has to come before it
    assert not np.array_equal(sampler.rows(7), sampler.rows(8))
    assert not np.array_equal(sampler.rows(7), other.rows(7))


def test_classes_meet_in_changing_company():
    sampler, labels = balanced(DATA["equal"])
    met = np.zeros((10, 10), dtype=int)
    for epoch in range(60):
        for batch in batches(sampler, epoch):
            names = np.unique(labels[batch])
            met[np.ix_(names, names)] += 1
    pairs = met[np.triu_indices(10, 1)]
    assert pairs.min() > 0.4 * pairs.mean()


def test_loader_takes_the_sampler_in_parts_for_any_number_of_ranks():
    sampler, labels = balanced(DATA["unequal"])

    def loader(rank, world):
        return BatchLoader(
            sampler.ids, labels, lambda rows, ids, epoch: (torch.from_numpy(rows),),
            batch_size=12, seed=0, total_steps=20, sampler=sampler, ranks=Ranks(rank=rank, world=world),
        )  # fmt: skip

    expected = np.concatenate([sampler.rows(epoch) for epoch in range(4)])[: 20 * 12]
    for world in (1, 2, 5):
        parts = [list(loader(rank, world)) for rank in range(world)]
        rows = [torch.cat([b.views[0] for b in step]) for step in zip(*parts, strict=True)]
        assert torch.cat(rows).tolist() == expected.tolist()


def test_loader_with_another_batch_than_its_sampler_is_refused():
    sampler, labels = balanced(DATA["equal"])
    with pytest.raises(
        InvalidValue, match="batches have 12 images; expected `batch_size`, which is 16"
    ):
        BatchLoader(
            sampler.ids,
            labels,
            lambda *_: (),
            batch_size=16,
            seed=0,
            total_steps=1,
            sampler=sampler,
        )


@pytest.mark.parametrize(
    ("labels", "classes", "images", "words"),
    [
        ([0, 0, 1, 1], 1, 2, "at least 2 classes"),
        ([0, 0, 1, 1], 2, 0, "1 image of each"),
        ([0, 0, 1, 1], 3, 2, "there are 2 classes"),
        ([0, 0, 0, 1], 2, 2, "1 of the classes have fewer than the 2 images"),
        ([0, 0, -1, 1, 1], 2, 2, "1 images have no label"),
        ([], 2, 2, "0 images have no label"),
    ],
)
def test_batches_that_cannot_be_are_refused(labels, classes, images, words):
    with pytest.raises(InvalidValue, match=words):
        balanced(np.array(labels, dtype=np.int64), classes, images, shuffled=False)


def test_order_of_a_million_images_is_quick_enough_to_be_made_at_every_epoch():
    labels = np.repeat(np.arange(1000), 1000)
    sampler, _ = balanced(labels, classes=64, images=8)
    rows = sampler.rows(299)
    assert len(np.unique(rows)) == len(rows) == sampler.steps_per_epoch * 512
