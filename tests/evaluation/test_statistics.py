import numpy as np
import pytest
from scipy import stats

from coview.core.errors import InvalidValue
from coview.evaluation import bootstrap_interval, mean_interval, paired_permutation_test
from coview.evaluation.statistics import holm, wilson_interval, with_width


def test_bootstrap_interval_of_a_mean_equals_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=400)
    interval = bootstrap_interval(lambda rows: float(values[rows].mean()), 400, resamples=4000)
    oracle = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert interval == pytest.approx((oracle.low, oracle.high), abs=0.01)


def test_bootstrap_interval_leaves_out_draws_without_a_value():
    labels = np.array([0] * 5 + [1])
    interval = bootstrap_interval(
        lambda rows: 0.5 if labels[rows].any() else float("nan"), 6, resamples=50
    )
    assert interval == (0.5, 0.5)


def test_an_interval_without_width_becomes_wilsons():
    assert with_width((0.2, 0.4), 10) == (0.2, 0.4)
    assert with_width((0.0, 0.0), 10) == wilson_interval(0.0, 10)
    assert with_width((1.0, 1.0 + 1e-15), 10) == wilson_interval(1.0, 10)


def test_bootstrap_interval_is_the_same_of_the_same_seed():
    values = np.arange(30.0)
    one, two, other = (
        bootstrap_interval(lambda rows: float(values[rows].mean()), 30, seed=seed, resamples=200)
        for seed in (0, 0, 1)
    )
    assert one == two != other


def test_bootstrap_interval_refuses_no_images():
    with pytest.raises(InvalidValue, match="count"):
        bootstrap_interval(lambda rows: 0.0, 0)


def test_mean_interval_equals_that_of_scipy():
    values = [0.31, 0.35, 0.4, 0.38]
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((oracle.low, oracle.high))
    assert mean_interval([0.5]) == (-np.inf, np.inf)


def test_paired_permutation_test_equals_all_exchanges():
    generator = np.random.default_rng(0)
    first, second = generator.random(10) < 0.8, generator.random(10) < 0.4
    observed = abs(int(first.sum()) - int(second.sum()))
    extreme = 0
    for exchange in np.ndindex(*(2,) * 10):
        swap = np.array(exchange, bool)
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        extreme += abs(int(a.sum()) - int(b.sum())) >= observed
    assert paired_permutation_test(first, second) == pytest.approx(extreme / 2**10)


def test_paired_permutation_test_of_equal_outcomes_is_one():
    outcomes = np.array([True, False])
    assert paired_permutation_test(outcomes, outcomes) == 1.0


def test_paired_permutation_test_refuses_other_images():
    with pytest.raises(InvalidValue, match="2 and 3 images"):
        paired_permutation_test(np.zeros(2, bool), np.zeros(3, bool))


def test_holm_is_the_definition():
    """By the definition: the k-th smallest is compared with level / (n - k)."""
    draws = np.random.default_rng(0)
    for _ in range(50):
        p = draws.uniform(0, 0.2, size=5)
        adjusted = np.array(holm(list(p)))
        for level in (0.01, 0.05, 0.1):
            order, rejected = np.argsort(p), np.zeros(5, bool)
            for rank, place in enumerate(order):
                if p[place] > level / (5 - rank):
                    break
                rejected[place] = True
            assert (rejected == (adjusted <= level)).all()
