from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from toy_images import blobs, colored

from coview.core.errors import DataError
from coview.core.images import store_from_arrays
from coview.evaluation import (
    evaluate_clustering,
    make_benchmark,
    pixel_subject,
    wilson_interval,
)
from coview.evaluation.clustering import (
    adjusted_rand,
    cluster,
    clustering_scores,
    matched_share,
    mutual_information,
)


def contingency(clusters, classes):
    table = np.zeros((clusters.max() + 1, classes.max() + 1))
    for one, two in zip(clusters, classes, strict=True):
        table[one, two] += 1
    return table


PARTITIONS = [
    (
        np.random.default_rng(seed).integers(0, a, 60),
        np.random.default_rng(seed + 9).integers(0, b, 60),
    )
    for seed, a, b in [(0, 3, 3), (1, 2, 5), (2, 5, 2), (3, 1, 4), (4, 4, 1), (5, 1, 1)]
] + [(np.arange(12) % 4, np.arange(12) % 4), (np.arange(6), np.arange(6))]


@pytest.mark.parametrize(("clusters", "classes"), PARTITIONS)
def test_scores_equal_those_of_scikit_learn(clusters, classes):
    table = contingency(clusters, classes)
    nmi = normalized_mutual_info_score(classes, clusters)
    assert mutual_information(table) == pytest.approx(nmi, abs=1e-12)
    assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(classes, clusters), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_matched_share_is_that_of_the_best_of_all_matchings(seed):
    table = np.random.default_rng(seed).integers(0, 20, (4, 4)).astype(float)
    best = max(sum(table[i, p[i]] for i in range(4)) for p in permutations(range(4)))
    assert matched_share(table) == best / table.sum()


def test_clusters_of_separate_classes_are_the_classes():
    rows, labels, _ = blobs(200, 4, 16, spread=0.1)
    scores = clustering_scores(cluster(rows, 4), labels.numpy())
    for _, value, interval in scores:
        assert value == pytest.approx(1)
        assert interval == pytest.approx(wilson_interval(1, 200)), "200 images do not prove all"


def test_clusters_are_the_same_for_the_same_seed_and_scale():
    rows, _, _ = blobs(100, 4, 6, spread=2.0)
    assert np.array_equal(cluster(rows, 4, seed=3), cluster(rows, 4, seed=3))
    assert np.array_equal(cluster(rows, 4, seed=3), cluster(4 * rows, 4, seed=3))


def test_equal_rows_are_clustered_without_a_warning():
    assert len(cluster(torch.ones(10, 3), 2)) == 10


def test_intervals_hold_their_value_and_shrink_with_the_images():
    widths = []
    for count in (50, 800):
        generator = np.random.default_rng(0)
        classes = generator.integers(0, 3, count)
        clusters = np.where(generator.random(count) < 0.3, generator.integers(0, 3, count), classes)
        scores = clustering_scores(clusters, classes)
        assert all(low <= value <= high for _, value, (low, high) in scores)
        widths.append([high - low for _, _, (low, high) in scores])
    assert all(small < large for large, small in zip(*widths, strict=True))


def test_intervals_of_unrelated_clusters_lie_around_the_value():
    generator = np.random.default_rng(1)
    clusters, classes = generator.integers(0, 10, (2, 40))
    for _, value, (low, high) in clustering_scores(clusters, classes)[1:]:
        assert low < value < high
        assert high - value < 2 * (value - low)


def test_results_say_the_number_of_clusters():
    made = make_benchmark([pixel_subject(4)], colored(150))
    results = evaluate_clustering(made)
    assert [r.metric for r in results] == ["cluster_accuracy", "nmi", "ari"]
    assert all(r.setting == {"clusters": 3} for r in results)
    assert all(r.test_images == 30 for r in results)


def test_one_class_is_refused():
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3), np.uint8)
    store = store_from_arrays(images, labels=np.zeros(20, np.int64))
    with pytest.raises(DataError, match="at least 2 classes"):
        evaluate_clustering(make_benchmark([pixel_subject(4)], store))
