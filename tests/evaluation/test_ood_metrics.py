import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from coview.core.errors import InvalidValue
from coview.evaluation.ood_metrics import Resampling, Separation, placements
from coview.evaluation.statistics import wilson_interval


def draw(seed, n=83, m=37, ties=False):
    generator = np.random.default_rng(seed)
    data, outliers = generator.normal(0.7, 1, n), generator.normal(0, 1, m)
    return (data.round(1), outliers.round(1)) if ties else (data, outliers)


def by_sklearn(data, outliers):
    truth = np.repeat([1, 0], [len(data), len(outliers)])
    scores = np.concatenate([data, outliers])
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return (
        roc_auc_score(truth, scores),
        fpr[(tpr >= 0.95 - 1e-12).argmax()],
        average_precision_score(truth, scores),
        average_precision_score(1 - truth, -scores),
    )


def values(separation, row=0):
    return tuple(
        getattr(separation, name)[row] for name in ("auroc", "fpr95", "aupr_data", "aupr_outliers")
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_separation_equals_scikit_learn(seed, ties):
    data, outliers = draw(seed, ties=ties)
    assert values(Separation.of(data, outliers)) == pytest.approx(by_sklearn(data, outliers))


@pytest.mark.parametrize("ties", [False, True])
def test_separation_of_a_resample_is_that_of_the_drawn_images(ties):
    data, outliers = draw(3, ties=ties)
    drawn = Resampling.of(len(data), len(outliers), seed=5, resamples=8)
    counts = drawn.data.astype(float), drawn.outliers.astype(float)
    together = Separation.of(data, outliers, counts)
    for row in range(8):
        repeated = np.repeat(data, drawn.data[row]), np.repeat(outliers, drawn.outliers[row])
        assert values(together, row) == pytest.approx(by_sklearn(*repeated))


def test_separation_equals_literal_loops():
    data, outliers = draw(7, n=20, m=9, ties=True)
    pairs = [(x > y) + 0.5 * (x == y) for x in data for y in outliers]
    separation = Separation.of(data, outliers)
    assert separation.auroc[0] == pytest.approx(np.mean(pairs))
    # The highest threshold that at least 95 % of the data reach, here all 19 or 20 of them.
    threshold = max(t for t in data if np.mean(data >= t) >= 0.95)
    assert separation.fpr95[0] == pytest.approx(np.mean(outliers >= threshold))


def test_perfect_reversed_and_constant_scores():
    low, high = np.zeros(4), np.ones(6)
    assert values(Separation.of(high, low)) == (1, 0, 1, 1)
    assert values(Separation.of(low, high))[:2] == (0, 1)
    assert values(Separation.of(np.zeros(6), low)) == pytest.approx((0.5, 1, 0.6, 0.4))


def test_draws_are_independent_with_replacement_and_keyed_by_the_seed():
    drawn = Resampling.of(50, 20, seed=1, resamples=400)
    assert (drawn.data.sum(1) == 50).all()
    assert (drawn.outliers.sum(1) == 20).all()
    assert drawn.data.mean(0) == pytest.approx(1, abs=0.25)
    assert drawn.data.astype(float).var() == pytest.approx(1 - 1 / 50, rel=0.05)
    again, other = (Resampling.of(50, 20, seed=seed, resamples=400) for seed in (1, 2))
    assert (again.data == drawn.data).all()
    assert (other.data != drawn.data).any()


def test_intervals_are_percentiles_over_the_draws():
    data, outliers = draw(2)
    drawn = Resampling.of(len(data), len(outliers), resamples=130)  # more than one chunk
    rows = [
        by_sklearn(np.repeat(data, first), np.repeat(outliers, second))
        for first, second in zip(drawn.data, drawn.outliers, strict=True)
    ]
    expected = np.percentile(rows, [2.5, 97.5], axis=0).T
    assert np.allclose(list(drawn.intervals(data, outliers).values()), expected)


def test_scores_that_separate_all_images_are_not_certain():
    intervals = Resampling.of(20, 10, resamples=50).intervals(np.arange(20.0) + 50, np.arange(10.0))
    assert intervals["auroc"] == wilson_interval(1.0, 10)
    assert intervals["fpr95"] == wilson_interval(0.0, 10)


def test_intervals_cover_the_true_auroc():
    """Normal scores one deviation apart have an AUROC of Phi(1 / sqrt 2) = 0.760."""
    covered = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        data, outliers = generator.normal(1, 1, 120), generator.normal(0, 1, 60)
        drawn = Resampling.of(120, 60, seed=seed, resamples=200)
        low, high = drawn.intervals(data, outliers)["auroc"]
        covered += low <= 0.7602 <= high
    assert covered >= 52


def test_mean_placement_is_the_auroc():
    data, outliers = draw(4, ties=True)
    assert placements(data, outliers).mean() == pytest.approx(by_sklearn(data, outliers)[0])


@pytest.mark.parametrize(
    "scores", [np.zeros(0), np.array([1.0, np.nan]), np.array([np.inf]), np.zeros((2, 1))]
)
def test_scores_without_images_or_not_finite_are_refused(scores):
    with pytest.raises(InvalidValue, match="one finite number"):
        Separation.of(np.zeros(3), scores)


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0)])
def test_draws_of_nothing_are_refused(sizes):
    with pytest.raises(InvalidValue, match="at least 1 of each"):
        Resampling.of(*sizes)
