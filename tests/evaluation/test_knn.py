import math
from collections import defaultdict

import pytest
import torch
from toy_images import blobs, colored

from coview.core.errors import InvalidValue
from coview.embeddings.neighbors import neighbors
from coview.evaluation import (
    evaluate_knn,
    knn,
    knn_accuracies,
    knn_accuracy,
    make_benchmark,
    pixel_subject,
)
from coview.evaluation.knn import KNN_SETTINGS, SWEPT_K, SWEPT_TEMPERATURES, choose_knn
from coview.evaluation.validation import split_validation


def by_hand(bank, labels, queries, k, temperature):
    """Predicted labels by plain loops in float64."""
    result = []
    for query in queries.double():
        cosines = [float(query @ row / (query.norm() * row.norm())) for row in bank.double()]
        nearest = sorted(range(len(bank)), key=lambda j: (-cosines[j], j))[:k]
        votes = defaultdict(float)
        for j in nearest:
            votes[int(labels[j])] += (
                1 if temperature is None else math.exp(cosines[j] / temperature)
            )
        top = max(votes.values())
        result.append(next(int(labels[j]) for j in nearest if votes[int(labels[j])] == top))
    return torch.tensor(result)


@pytest.mark.parametrize("temperature", [None, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 2, 10, 60, 500])
def test_knn_equals_brute_force(k, temperature):
    bank, labels, _ = blobs(60, 5, 4, spread=2.0)
    queries, truth, _ = blobs(40, 5, 4, seed=1, spread=2.0)
    expected = (by_hand(bank, labels, queries, k, temperature) == truth).double().mean()
    accuracy = knn_accuracy(bank, labels, queries, truth, k=k, temperature=temperature)
    assert accuracy == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_knn_of_one_on_the_bank_itself_finds_everything(temperature):
    rows, _, _ = blobs(300, 5, 8)
    labels = torch.randint(50, (300,), generator=torch.Generator().manual_seed(0))
    assert knn_accuracy(rows, labels, rows, labels, k=1, temperature=temperature) == 1.0


def test_knn_does_not_depend_on_the_order_of_the_bank():
    bank, labels, _ = blobs(80, 4, 5, spread=2.0)
    queries, truth, _ = blobs(50, 4, 5, seed=1, spread=2.0)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(2))
    settings = ((1, None), (10, 0.07), (20, None))
    one = knn_accuracies(bank, labels, queries, truth, settings=settings)
    two = knn_accuracies(bank[order], labels[order], queries, truth, settings=settings)
    assert one == two


def test_knn_equal_votes_go_to_the_class_of_the_nearest_neighbor():
    bank = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4]])
    labels = torch.tensor([8, 5, 5, 8])
    query = torch.tensor([[1.0, 0.0]])
    for k in (2, 4):
        assert knn_accuracy(bank, labels, query, torch.tensor([8]), k=k, temperature=None) == 1


def test_knn_more_neighbors_than_images_uses_all():
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    rows = neighbors(bank, bank, 200)[1]
    assert rows.shape == (3, 3)
    assert knn_accuracy(bank, labels, bank, torch.tensor([1, 1, 1]), k=200, temperature=None) == 1


def test_knn_labels_may_have_gaps_and_the_bank_may_miss_a_class():
    bank, labels = torch.eye(3), torch.tensor([1000, -5, 7])
    truth = torch.tensor([1000, -5, 42])
    assert knn_accuracy(bank, labels, torch.eye(3), truth, k=1) == pytest.approx(2 / 3)


@pytest.mark.parametrize("temperature", [1e-4, 0.01])
def test_knn_tiny_temperature_is_the_nearest_neighbor(temperature):
    bank, labels, _ = blobs(100, 10, 4, spread=3.0)
    queries, truth, _ = blobs(60, 10, 4, seed=1, spread=3.0)
    sharp = knn_accuracy(bank, labels, queries, truth, k=20, temperature=1e-6)
    assert sharp == knn_accuracy(bank, labels, queries, truth, k=1)
    low = knn_accuracy(bank, labels, queries, truth, k=20, temperature=temperature)
    predicted = by_hand_safe(bank, labels, queries, 20, temperature)
    assert low == pytest.approx(float((predicted == truth).double().mean()))


def by_hand_safe(bank, labels, queries, k, temperature):
    """As by_hand, shifted by the largest cosine so that float64 does not overflow either."""
    result = []
    for query in queries.double():
        cosines = torch.nn.functional.cosine_similarity(query[None], bank.double())
        nearest = cosines.argsort(descending=True)[:k]
        votes = defaultdict(float)
        for j in nearest.tolist():
            votes[int(labels[j])] += math.exp((cosines[j] - cosines.max()) / temperature)
        result.append(max(votes, key=votes.get))
    return torch.tensor(result)


def test_knn_scale_of_features_does_not_matter_and_zero_rows_are_finite():
    bank, labels, _ = blobs(30, 3, 5)
    queries, truth, _ = blobs(20, 3, 5, seed=1)
    scaled = bank * torch.logspace(-4, 4, 30)[:, None]
    assert knn_accuracy(bank, labels, queries, truth) == knn_accuracy(
        scaled, labels, queries, truth
    )
    queries[0] = 0
    assert neighbors(bank, queries, 3)[0].isfinite().all()


def test_knn_refuses_a_temperature_of_zero():
    with pytest.raises(InvalidValue, match="temperature"):
        knn_accuracy(torch.eye(2), torch.arange(2), torch.eye(2), torch.arange(2), temperature=0.0)


def test_the_chosen_vote_is_the_best_on_the_validation_part():
    rows, labels, ids = blobs(600, 6, 4, spread=2.0)
    chosen = choose_knn(rows, labels, ids)
    train, validation = split_validation(ids)
    settings = tuple((k, t) for k in SWEPT_K for t in SWEPT_TEMPERATURES)
    accuracies = knn_accuracies(
        rows[train], labels[train], rows[validation], labels[validation], settings=settings
    )
    assert chosen.accuracy >= max(accuracies)
    own = knn_accuracy(
        rows[train], labels[train], rows[validation], labels[validation], k=chosen.k,
        temperature=chosen.temperature,
    )  # fmt: skip
    assert own == chosen.accuracy


def test_the_choice_goes_beyond_a_border(monkeypatch):
    monkeypatch.setattr(knn, "SWEPT_K", (1, 3))
    monkeypatch.setattr(knn, "SWEPT_TEMPERATURES", (1.0, 2.0))
    generator = torch.Generator().manual_seed(0)
    rows = torch.eye(2).repeat_interleave(500, 0)
    rows = rows + 0.05 * torch.randn(1000, 2, generator=generator)
    flipped = torch.rand(1000, generator=generator) < 0.35  # so that many neighbors are better
    labels = (torch.arange(1000) >= 500) ^ flipped
    chosen = choose_knn(rows, labels.long(), torch.arange(1000))
    assert chosen.k in (6, 12, 24)
    monkeypatch.setattr(knn, "MAX_GROWTH", 0)
    assert choose_knn(rows, labels.long(), torch.arange(1000)).k == 3


def test_the_chosen_setting_is_the_last_row_and_no_other_is_chosen():
    results = evaluate_knn(make_benchmark([pixel_subject(4)], colored(100)))
    assert [(r.setting["k"], r.setting["temperature"]) for r in results[:-1]] == list(KNN_SETTINGS)
    assert (20, 0.07) in KNN_SETTINGS
    assert (200, 0.1) in KNN_SETTINGS
    assert ["validation_accuracy" in r.setting for r in results] == [False] * 9 + [True]
