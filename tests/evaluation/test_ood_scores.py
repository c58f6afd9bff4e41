import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from toy_images import blobs

from coview.core.errors import InvalidValue
from coview.embeddings.neighbors import neighbors
from coview.evaluation import ProbeSpec
from coview.evaluation.ood import score, scorers
from coview.evaluation.ood_scores import (
    ROWS,
    Gaussians,
    Scaling,
    cosine_norm,
    energy,
    kmeans_groups,
    knn_score,
    max_softmax,
    whitening,
)

QUICK = ProbeSpec(epochs=2)


def bank_and_rows(count=300, classes=3, width=6):
    bank, labels, ids = blobs(count, classes, width)
    return bank, labels, ids, blobs(40, classes, width, seed=1)[0]


def scaled_by_numpy(bank, rows):
    """SSD's order: to unit length, then the mean and deviation of the training part."""
    bank, rows = (normalize(part.double().numpy()) for part in (bank, rows))
    return [(part - bank.mean(0)) / bank.std(0) for part in (bank, rows)]


def squared(bank, rows):
    """The literal formula, with numpy's pseudo-inverse of the biased covariance."""
    inverse = np.linalg.pinv(np.cov(bank.T, bias=True), hermitian=True)
    mean = bank.mean(0)
    return np.array([(row - mean) @ inverse @ (row - mean) for row in rows])


def test_knn_score_is_the_distance_of_scikit_learn():
    bank, _, _, rows = bank_and_rows()
    search = NearestNeighbors(n_neighbors=7).fit(normalize(bank.numpy()))
    expected = -search.kneighbors(normalize(rows.numpy()))[0][:, -1]
    assert np.allclose(knn_score(neighbors(bank, rows, 7)[0]), expected, atol=1e-5)


def test_cosine_norm_is_the_largest_product_with_unit_rows():
    bank, _, _, rows = bank_and_rows()
    expected = (rows.numpy() @ normalize(bank.numpy()).T).max(1)
    assert np.allclose(cosine_norm(neighbors(bank, rows, 3)[0], rows), expected, atol=1e-5)


def test_scores_of_logits_equal_scipy():
    logits = 30 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert np.allclose(max_softmax(logits), softmax(logits.double().numpy(), axis=1).max(1))
    assert np.allclose(energy(logits), logsumexp(logits.double().numpy(), axis=1))


def test_ssd_without_labels_equals_the_literal_formula():
    bank, _, _, rows = bank_and_rows()
    assert np.allclose(Gaussians.fit(bank).nearest(rows), squared(*scaled_by_numpy(bank, rows)))


def test_ssd_without_labels_equals_scikit_learn():
    bank, _, _, rows = bank_and_rows()
    scaled, queries = scaled_by_numpy(bank, rows)
    expected = EmpiricalCovariance().fit(scaled).mahalanobis(queries)
    assert np.allclose(Gaussians.fit(bank).nearest(rows), expected)


@pytest.mark.parametrize("labeled", [False, True])
def test_fewer_rows_than_dimensions_have_the_pseudo_inverse_too(labeled):
    bank, labels, _, rows = bank_and_rows(count=24, width=40)
    scaled, queries = scaled_by_numpy(bank, rows)
    groups = labels.numpy() if labeled else np.zeros(len(bank), int)
    means = np.stack([scaled[groups == group].mean(0) for group in np.unique(groups)])
    within = scaled - means[groups]
    inverse = np.linalg.pinv(within.T @ within / len(within), hermitian=True)
    away = queries[:, None] - means
    expected = np.einsum("mcd,de,mce->mc", away, inverse, away)
    found = Gaussians.fit(bank, labels if labeled else None).distances(rows)
    assert np.allclose(found, expected)


def test_many_rows_are_the_same_in_parts():
    bank, labels, _ = blobs(2 * ROWS + 50, 3, 4)
    scaled, queries = scaled_by_numpy(bank, bank[:100])
    assert np.allclose(Gaussians.fit(bank).nearest(bank)[:100], squared(scaled, queries))
    assert len(Gaussians.fit(bank, labels).distances(bank)) == len(bank)


def test_class_means_with_one_covariance_equal_scikit_learn():
    bank, labels, _, rows = bank_and_rows()
    scaled, queries = scaled_by_numpy(bank, rows)
    means = np.stack([scaled[labels.numpy() == label].mean(0) for label in range(3)])
    within = EmpiricalCovariance(assume_centered=True).fit(scaled - means[labels.numpy()])
    expected = (
        pairwise_distances(queries, means, metric="mahalanobis", VI=within.get_precision()) ** 2
    )
    assert np.allclose(Gaussians.fit(bank, labels).distances(rows), expected)


def test_clusters_have_their_own_covariance_and_the_nearest_counts():
    bank, labels, _, rows = bank_and_rows()
    scaled, queries = scaled_by_numpy(bank, rows)
    expected = [squared(scaled[labels.numpy() == label], queries) for label in range(3)]
    fitted = Gaussians.fit(bank, labels, shared=False)
    assert np.allclose(fitted.nearest(rows), np.min(expected, axis=0))


def test_standardizing_changes_no_distance_of_a_full_rank_covariance():
    bank, _, _, rows = bank_and_rows()
    plain = [normalize(part.double().numpy()) for part in (bank, rows)]
    assert np.allclose(Gaussians.fit(bank).nearest(rows), squared(*plain))


def test_directions_in_which_the_bank_is_constant_do_not_count():
    bank, _, _, rows = bank_and_rows()
    dead = [torch.cat([part, torch.zeros(len(part), 2)], 1) for part in (bank, rows)]
    assert np.allclose(Gaussians.fit(dead[0]).nearest(dead[1]), Gaussians.fit(bank).nearest(rows))
    assert bool(Scaling.of(dead[0]).deviation[-2:].isinf().all())


def test_whitening_squared_is_the_pseudo_inverse():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    covariances = root @ root.mT  # rank 4 of 6
    whitened = whitening(covariances)
    assert torch.allclose(whitened @ whitened.mT, torch.linalg.pinv(covariances, hermitian=True))


def test_kmeans_finds_the_groups_of_separate_blobs():
    bank, labels, _ = blobs(300, 3, 6, spread=0.1)
    for seed in (0, 2**32 + 1):
        groups = kmeans_groups(bank, 3, seed=seed)
        assert len({(a, b) for a, b in zip(labels.tolist(), groups.tolist(), strict=True)}) == 3


def test_too_many_clusters_are_refused():
    bank, _, ids = blobs(60, 3, 6)
    with pytest.raises(InvalidValue, match="take fewer `clusters` than 30"):
        scorers(bank, torch.zeros(60, dtype=torch.int64), ids, clusters=(30,), spec=QUICK)
    with pytest.raises(InvalidValue, match="1 to the number of images, 60"):
        kmeans_groups(bank, 61)


def named(fitted, rows):
    settings = [tuple(setting.values()) for settings, _ in fitted for setting in settings]
    return dict(zip(settings, score(fitted, rows), strict=True))


def test_scorers_give_every_score_in_one_order():
    bank, labels, ids, rows = bank_and_rows()
    found = named(scorers(bank, labels + 4, ids, k=7, clusters=(1, 2), spec=QUICK), rows)
    assert list(found) == [
        ("knn", 7, 7), ("cosine-norm",), ("mahalanobis", 1), ("mahalanobis", 2),
        ("mahalanobis-classes",), ("mahalanobis-relative",), ("softmax",),
        ("energy",),
    ]  # fmt: skip
    assert np.allclose(found["knn", 7, 7], knn_score(neighbors(bank, rows, 7)[0]))
    assert np.allclose(found["mahalanobis", 1], -Gaussians.fit(bank).nearest(rows))
    assert np.allclose(found["mahalanobis-classes",], -Gaussians.fit(bank, labels).nearest(rows))
    assert np.allclose(
        found["mahalanobis-relative",], found["mahalanobis-classes",] - found["mahalanobis", 1]
    )
    assert len({values.tobytes() for values in found.values()}) == 8


def test_own_logits_are_taken_as_they_are():
    bank, labels, ids, rows = bank_and_rows()
    found = named(scorers(bank, labels, ids, spec=QUICK, own_logits=True), rows)
    assert np.allclose(found["softmax",], max_softmax(rows))
    assert np.allclose(found["energy",], energy(rows))


def test_one_class_leaves_out_the_scores_that_need_several():
    bank, _, ids, rows = bank_and_rows()
    found = named(scorers(bank, torch.full((300,), 5), ids, spec=QUICK), rows)
    assert list(found) == [("knn", 50, 50), ("cosine-norm",), ("mahalanobis", 1)]


def test_far_rows_score_lower_by_every_distance():
    bank, labels, ids, rows = bank_and_rows()
    far = -rows
    fitted = scorers(bank, labels, ids, spec=QUICK)
    near, away = named(fitted, rows), named(fitted, far)
    for name in (("knn", 50, 50), ("cosine-norm",), ("mahalanobis", 1), ("mahalanobis-classes",)):
        assert np.median(near[name]) > np.median(away[name])
