import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from toy_images import blobs, colored

from coview.core.errors import DataError
from coview.core.images import store_from_arrays
from coview.evaluation import evaluate_few_labels, make_benchmark, pixel_subject
from coview.evaluation.few_labels import (
    ALL_FOLDS_UP_TO,
    STRENGTHS,
    few_label_classifier,
    folds,
    label_subsets,
)
from coview.evaluation.statistics import mean_interval


def labeled_store(labels):
    return store_from_arrays(np.zeros((len(labels), 2, 2, 3), np.uint8), labels=labels)


def test_subsets_are_balanced_nested_and_in_the_order_of_their_size():
    store = labeled_store(np.arange(400) % 4)
    subsets = label_subsets(store, 3)
    assert [s.words for s in subsets] == [
        "1-per-class",
        "2-per-class",
        "5-per-class",
        "10-per-class",
        "25-per-class",
    ]  # 1 % is 1-per-class, 10 % is 10-per-class, and 100 of a class are all
    for draw in range(3):
        for small, large in itertools.pairwise(subsets):
            assert set(small.draws[draw]) < set(large.draws[draw])
        for subset in subsets:
            counts = np.bincount(store.labels[subset.draws[draw]])
            assert counts.min() == counts.max()
    assert set(subsets[0].draws[0]) != set(subsets[0].draws[1])


def test_a_part_of_too_few_images_is_refused():
    with pytest.raises(DataError, match="too few labeled images"):
        label_subsets(labeled_store(np.arange(4)))


@pytest.mark.parametrize(("each", "count"), [(1, 0), (2, 2), (3, 3), (9, 5)])
def test_folds_spread_each_class_evenly(each, count):
    labels, ids = torch.arange(4 * each) % 4, torch.arange(4 * each) * 17
    parts = list(folds(labels, ids))
    assert len(parts) == count
    validated = torch.cat([v for _, v in parts]) if parts else torch.arange(4 * each)
    assert sorted(validated.tolist()) == list(range(4 * each))
    for train, validation in parts:
        assert set(train.tolist()).isdisjoint(validation.tolist())
        counts = torch.bincount(labels[validation], minlength=4)
        assert counts.max() - counts.min() == 0


def test_many_labels_are_validated_on_one_fold():
    labels = torch.arange(ALL_FOLDS_UP_TO + 10) % 2
    ((train, validation),) = folds(labels, torch.arange(len(labels)))
    assert len(validation) == len(labels) // 5
    assert len(train) + len(validation) == len(labels)


@pytest.mark.parametrize("each", [2, 6])
def test_the_strength_is_that_of_a_cross_validation_by_scikit_learn(each):
    rows, labels, ids = blobs(600, 3, 10, spread=2.5, dtype=torch.float64)
    chosen = torch.cat([(labels == c).nonzero()[:each, 0] for c in range(3)])
    rows, labels, ids = rows[chosen], labels[chosen], ids[chosen]
    scores = {strength: (0, 0.0) for strength in STRENGTHS}
    for train, validation in folds(labels, ids):
        for strength in STRENGTHS:
            model = Sklearn(C=1 / strength, tol=1e-9, max_iter=20_000)
            model.fit(rows[train].numpy(), labels[train].numpy())
            truth = labels[validation].numpy()
            logs = model.predict_log_proba(rows[validation].numpy())
            right, total = (logs.argmax(1) == truth).sum(), logs[np.arange(len(truth)), truth].sum()
            scores[strength] = scores[strength][0] + right, scores[strength][1] + total
    best = max(scores, key=scores.get)
    model = Sklearn(C=1 / best, tol=1e-9, max_iter=20_000).fit(rows.numpy(), labels.numpy())
    test, truth, _ = blobs(1000, 3, 10, seed=1, spread=2.5, dtype=torch.float64)
    ours = few_label_classifier(rows, labels, ids)[0].accuracy(test, truth)
    assert ours == pytest.approx(model.score(test.numpy(), truth.numpy()), abs=0.02)


def test_one_label_of_a_class_needs_no_validation():
    rows, labels, ids = torch.eye(3), torch.arange(3), torch.arange(3)
    classifier, _ = few_label_classifier(rows, labels, ids)
    assert classifier.predict(rows).tolist() == [0, 1, 2]
    assert classifier.predict(rows * 100).tolist() == [0, 1, 2]


def test_the_scale_of_the_features_does_not_matter_with_one_label():
    rows, labels, ids = blobs(40, 4, 8, dtype=torch.float64)
    chosen = torch.tensor([int((labels == c).nonzero()[0, 0]) for c in range(4)])
    one = few_label_classifier(rows[chosen], labels[chosen], ids[chosen])[0]
    two = few_label_classifier(1000 * rows[chosen], labels[chosen], ids[chosen])[0]
    assert torch.equal(one.predict(rows), two.predict(1000 * rows))


def test_more_labels_help_and_the_value_is_the_mean_over_draws():
    made = make_benchmark([pixel_subject(4)], colored(400, classes=4))
    results = evaluate_few_labels(made, draws=3)
    assert [r.setting["labels"] for r in results] == [4, 8, 20, 32, 40, 100]
    assert results[-1].value >= results[0].value
    for result in results:
        assert result.metric == "accuracy"
        assert result.interval[0] <= result.value <= result.interval[1]
    rows = label_subsets(made.train, 3)[2].draws
    train, test = made.features["pixels"]
    accuracies = [
        few_label_classifier(
            train.layers["pixels"][torch.from_numpy(r)], train.labels[torch.from_numpy(r)],
            train.ids[torch.from_numpy(r)], seed=draw,
        )[0].accuracy(test.layers["pixels"], test.labels)
        for draw, r in enumerate(rows)
    ]  # fmt: skip
    assert results[2].value == pytest.approx(np.mean(accuracies), abs=0.02)
    low, high = mean_interval(accuracies)
    assert results[2].interval == pytest.approx((max(0, low), min(1, high)), abs=0.1)
