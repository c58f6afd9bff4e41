import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from coview.core.errors import InvalidValue
from coview.embeddings.clusters import (
    Cluster,
    describe_clusters,
    granularities,
    kmeans,
    largest_first,
    nested_clusters,
    ward,
)


def groups(count=240, kinds=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % kinds
    centers = torch.eye(kinds, 16) * 3
    return centers[labels] + 0.2 * torch.randn(count, 16, generator=generator), labels.numpy()


def test_the_finest_clusters_are_the_groups():
    rows, labels = groups()
    assert adjusted_rand_score(labels, nested_clusters(rows, (6,))[6]) == 1


def test_a_cluster_lies_within_one_cluster_of_every_coarser_granularity():
    rows, _ = groups()
    clusters = nested_clusters(rows, (20, 3, 8))
    assert list(clusters) == [3, 8, 20]
    for fine, coarse in ((20, 8), (8, 3), (20, 3)):
        assert len(np.unique(clusters[fine])) == fine
        assert all(len(np.unique(clusters[coarse][clusters[fine] == n])) == 1 for n in range(fine))


@pytest.mark.parametrize("seed", range(5))
def test_weighted_ward_is_that_of_scikit_learn_on_repeated_points(seed):
    generator = np.random.default_rng(seed)
    means, sizes = generator.normal(size=(12, 3)), generator.integers(1, 9, 12)
    groups = ward(means, sizes.astype(float), (2, 5, 9))
    repeated = np.repeat(means, sizes, axis=0)
    for count, group in groups.items():
        model = AgglomerativeClustering(n_clusters=count, linkage="ward").fit(repeated)
        assert adjusted_rand_score(model.labels_, np.repeat(group, sizes)) == 1


def test_ward_with_more_groups_than_points_keeps_the_points():
    assert ward(np.eye(3), np.ones(3), (3, 7))[7].tolist() == [0, 1, 2]


def test_clusters_are_numbered_by_size_and_do_not_depend_on_threads():
    rows, _ = groups(300)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = nested_clusters(rows, (4, 12))
        torch.set_num_threads(3)
        second = nested_clusters(rows, (4, 12))
    finally:
        torch.set_num_threads(threads)
    for count in (4, 12):
        assert (first[count] == second[count]).all()
        assert (np.diff(np.bincount(first[count])) <= 0).all()


def test_rows_beyond_those_of_the_fit_are_assigned_to_the_nearest_center(monkeypatch):
    rows, labels = groups()
    monkeypatch.setattr("coview.embeddings.clusters.FIT_ROWS", 60)
    monkeypatch.setattr("coview.embeddings.clusters.CHUNK", 50)
    assert adjusted_rand_score(labels, nested_clusters(rows, (6,))[6]) == 1


def test_copies_give_fewer_clusters():
    rows = torch.eye(3).repeat(10, 1)
    clusters = nested_clusters(rows, (2, 5))
    assert len(np.unique(clusters[5])) == 3
    assert len(np.unique(kmeans(torch.zeros(8, 4), 3))) == 1


def test_numbers_that_do_not_fit_are_refused():
    for counts in ((0,), (2, 41), ()):
        with pytest.raises(InvalidValue, match="from 1 to 40"):
            nested_clusters(torch.rand(40, 3), counts)


def test_the_default_fits_any_number_of_images():
    for count in (1, 5, 20, 159, 160, 639, 640, 10**6):
        numbers = granularities(count)
        assert all(1 <= number <= count for number in numbers)
    assert granularities(640) == (8, 32)


def test_central_images_are_those_of_the_highest_cosine_to_the_mean():
    rows, _ = groups(60, 3)
    clusters = nested_clusters(rows, (3,))[3]
    unit = torch.nn.functional.normalize(rows, dim=1).double()
    for cluster in describe_clusters(rows, clusters, central=4):
        members = np.flatnonzero(clusters == cluster.number)
        mean = sum(unit[int(row)] for row in members)
        by_hand = sorted(members.tolist(), key=lambda row: -float(unit[row] @ mean))
        assert list(cluster.central) == by_hand[:4]
        assert cluster.size == 20
        assert cluster.classes == ()


def test_classes_of_a_cluster_are_shares_of_its_labeled_images():
    clusters = np.array([0, 0, 0, 0, 0, 1])
    labels = np.array([2, 2, 2, 1, -1, -1])
    first, second = describe_clusters(torch.rand(6, 4), clusters, labels)
    assert first.classes == ((2, 0.75), (1, 0.25))
    assert second.classes == ()
    assert first.class_sentence(["a", "b", "c"]) == "mostly c (75\u202f%)"
    assert second.class_sentence(["a", "b", "c"]) == ""


def test_a_mixed_cluster_is_named_by_its_three_largest_classes():
    classes = ((0, 0.4), (7, 0.3), (1, 0.2), (3, 0.1))
    cluster = Cluster(number=0, size=10, central=(0,), classes=classes)
    assert (
        cluster.class_sentence(["bag", "hat"]) == "bag (40\u202f%), 7 (30\u202f%), hat (20\u202f%)"
    )


def test_equal_sizes_keep_the_order_of_their_first_rows():
    assert largest_first(np.array([9, 4, 9, 4, 1])).tolist() == [0, 1, 0, 1, 2]
