import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from threadpoolctl import threadpool_info
from toy_images import blobs, colored

from coview.core.errors import DataError, InvalidValue
from coview.core.threads import threads
from coview.evaluation import (
    LogisticSpec,
    evaluate_logistic,
    make_benchmark,
    pixel_subject,
    regression,
)
from coview.evaluation.logistic import STRENGTHS, choose_classifier
from coview.evaluation.regression import LogisticRegression
from coview.evaluation.validation import official_validation, split_validation


def oracle(rows, labels, strength, classes=3):
    """scikit-learn's minimizer. Of two classes it has one weight vector, whose penalty is half."""
    c = (1 if classes > 2 else 2) / strength
    model = Sklearn(C=c, tol=1e-10, max_iter=20_000).fit(rows.double().numpy(), labels.numpy())
    return model


@pytest.mark.parametrize("strength", [1e3, 1.0, 1e-2])
@pytest.mark.parametrize(("count", "width"), [(200, 6), (30, 60)])  # tall and wide
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fit_equals_that_of_scikit_learn(strength, count, width, dtype):
    rows, labels, _ = blobs(count, 3, width, spread=2.0, dtype=dtype)
    rows = rows * torch.logspace(0, -1, width, dtype=dtype) + 5
    ours = LogisticRegression(rows, labels, tolerance=1e-14).fit(strength)
    theirs = oracle(rows, labels, strength)
    exact = dtype == torch.float64
    close = {"rtol": 1e-4, "atol": 1e-4} if exact else {"rtol": 2e-2, "atol": 2e-3}
    assert np.allclose(ours.weights.T.numpy(), theirs.coef_, **close)
    test, _, _ = blobs(500, 3, width, seed=1, spread=2.0, dtype=dtype)
    test = test * torch.logspace(0, -1, width, dtype=dtype) + 5
    probabilities = ours.scores(test).softmax(1).numpy()
    expected = theirs.predict_proba(test.double().numpy())
    assert np.allclose(probabilities, expected, atol=1e-4 if exact else 1e-2)


def test_a_fit_of_two_classes_equals_that_of_scikit_learn():
    rows, labels, _ = blobs(100, 2, 5, spread=2.0, dtype=torch.float64)
    ours = LogisticRegression(rows, labels, tolerance=1e-14).fit(3.0)
    theirs = oracle(rows, labels, 3.0, classes=2)
    assert np.allclose(
        ours.scores(rows).softmax(1).numpy(), theirs.predict_proba(rows.numpy()), atol=1e-5
    )


def test_a_fit_does_not_depend_on_the_fits_before_it():
    rows, labels, _ = blobs(150, 4, 8, spread=2.0, dtype=torch.float64)
    path = LogisticRegression(rows, labels, tolerance=1e-14)
    for strength in (100.0, 1.0, 0.1):
        last = path.fit(strength)
    alone = LogisticRegression(rows, labels, tolerance=1e-14).fit(0.1)
    assert torch.allclose(last.weights, alone.weights, atol=1e-4)


def test_the_default_tolerance_gives_the_accuracy_of_the_optimum():
    rows, labels, _ = blobs(1000, 5, 20, spread=3.0)
    test, truth, _ = blobs(2000, 5, 20, seed=1, spread=3.0)
    spec = LogisticSpec()
    path = LogisticRegression(rows, labels, tolerance=spec.tolerance)
    for strength in STRENGTHS[::11]:
        ours = path.fit(strength).accuracy(test, truth)
        theirs = oracle(rows, labels, strength).score(test.numpy(), truth.numpy())
        assert ours == pytest.approx(theirs, abs=0.002)


def test_a_constant_column_counts_for_nothing():
    rows, labels, _ = blobs(100, 3, 5)
    with_constant = torch.cat([rows, torch.full((100, 1), 4.2)], 1)
    model = LogisticRegression(with_constant, labels).fit(1.0)
    assert torch.isfinite(model.weights).all()
    assert model.weights[-1].abs().max() < 1e-4


def test_there_are_45_strengths_evenly_from_1e5_to_1e_6():
    assert len(STRENGTHS) == 45
    assert STRENGTHS[0] == 1e5
    assert STRENGTHS[-1] == pytest.approx(1e-6)
    assert np.allclose(np.diff(np.log10(STRENGTHS)), -0.25)


def test_the_best_strength_on_validation_is_fitted_to_all():
    rows, labels, ids = blobs(300, 3, 30, spread=4.0, dtype=torch.float64)
    spec = LogisticSpec(strengths=(1e4, 1e2, 1.0, 1e-2))
    train, validation = split_validation(ids)
    chosen = choose_classifier(rows, labels, (train, validation), spec)
    expected = {
        s: oracle(rows[train], labels[train], s).score(
            rows[validation].numpy(), labels[validation].numpy()
        )
        for s in spec.strengths
    }
    assert chosen.validation == pytest.approx(expected, abs=0.02)
    assert chosen.validation[chosen.strength] == max(chosen.validation.values())
    again = LogisticRegression(rows, labels, tolerance=spec.tolerance).fit(chosen.strength)
    assert torch.equal(chosen.classifier.weights, again.weights)


def test_of_equal_accuracies_the_lowest_validation_loss_is_chosen():
    rows, labels = torch.eye(2).repeat(50, 1), torch.arange(2).repeat(50)
    parts = split_validation(torch.arange(100))
    spec = LogisticSpec(strengths=(0.1, 10.0, 1.0))
    assert choose_classifier(rows, labels, parts, spec).strength == 0.1


def test_a_label_that_the_training_part_lacks_is_wrong():
    rows, labels = torch.eye(3), torch.arange(3)
    classifier = LogisticRegression(rows[:2], labels[:2]).fit(0.1)
    right, total = classifier.validate(rows, labels)
    losses = torch.nn.functional.cross_entropy(
        classifier.scores(rows[:2]), labels[:2], reduction="sum"
    )
    assert right == 2
    assert total == pytest.approx(-float(losses))


def test_the_split_does_not_depend_on_the_order_of_images():
    ids = torch.arange(50) * 31
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    first, second = split_validation(ids), split_validation(ids[order])
    for one, two in zip(first, second, strict=True):
        assert set(ids[one].tolist()) == set(ids[order][two].tolist())
    assert set(first[0].tolist()).isdisjoint(first[1].tolist())
    assert len(first[0]) + len(first[1]) == 50


def test_an_official_validation_part_needs_both_parts():
    assert official_validation(["a:train#0", "a:train#1"]) is None
    assert official_validation(["a:val#0", "a:val#1"]) is None
    train, validation = official_validation(["a:val#0", "a:train#1", "a:val#2"])
    assert train.tolist() == [1]
    assert validation.tolist() == [0, 2]


def test_a_result_says_its_strength_and_how_it_was_chosen():
    made = make_benchmark([pixel_subject(4)], colored(120))
    (result,) = evaluate_logistic(made, spec=LogisticSpec(strengths=(1.0, 0.01)))
    assert result.value > 0.8
    assert result.setting.keys() == {"strength", "validation_accuracy"}
    assert "L-BFGS" in result.card["classifier"]
    assert result.outcomes.array().mean() == result.value


def test_one_class_is_refused():
    with pytest.raises(DataError, match="2 classes"):
        LogisticRegression(torch.randn(5, 2), torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_no_penalty_is_refused(strength):
    regression = LogisticRegression(torch.randn(6, 2), torch.arange(6) % 2)
    with pytest.raises(InvalidValue, match="strength"):
        regression.fit(strength)


@pytest.mark.parametrize(
    "fields",
    [{"strengths": ()}, {"strengths": (-1.0,)}, {"validation_share": 0.0}, {"tolerance": 0.0},
     {"max_steps": 0}],
)  # fmt: skip
def test_a_spec_that_cannot_be_fitted_is_refused(fields):
    with pytest.raises(InvalidValue, match="logistic regression needs"):
        LogisticSpec(**fields)


def test_few_numbers_are_fitted_in_one_thread_and_the_threads_are_given_back(monkeypatch):
    seen = []
    softmax = regression.log_softmax

    def watched(*arguments, **options):
        blas = {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
        seen.append((torch.get_num_threads(), max(blas)))
        return softmax(*arguments, **options)

    monkeypatch.setattr(regression, "log_softmax", watched)
    rows, labels = torch.randn(60, 4), torch.arange(60) % 3
    with threads(2):
        LogisticRegression(rows, labels).fit(1.0)
        assert set(seen) == {(1, 1)}
        monkeypatch.setattr(regression, "FEW_NUMBERS", 100)
        LogisticRegression(rows, labels).fit(1.0)
        assert (2, 1) in seen
        assert torch.get_num_threads() == 2
