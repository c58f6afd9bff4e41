import numpy as np
import pytest
import torch

from coview.core.errors import InvalidValue
from coview.embeddings.outliers import outlier_scores


def by_hand(rows: torch.Tensor, k: int) -> np.ndarray:
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, :k].mean(1)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_scores_are_mean_distances_to_the_nearest_others(k, monkeypatch):
    monkeypatch.setattr("coview.embeddings.outliers.CHUNK", 17)
    rows = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    assert np.allclose(outlier_scores(rows, k=k), by_hand(rows, k), atol=1e-6)


def test_copies_are_neighbors_of_each_other_and_never_of_themselves():
    rows = torch.eye(4).repeat_interleave(3, 0)
    assert np.allclose(outlier_scores(rows, k=2), 0)
    assert np.allclose(outlier_scores(rows, k=4), 0.5)


def test_a_row_from_elsewhere_scores_highest():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 16, generator=generator) * 0.3 + 1
    rows[77] = -rows[77]
    assert int(outlier_scores(rows).argmax()) == 77


def test_of_many_rows_the_neighbors_are_drawn(monkeypatch):
    monkeypatch.setattr("coview.embeddings.outliers.CHUNK", 32)
    rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
    first, second = (outlier_scores(rows, k=5, max_bank=100, seed=3) for _ in range(2))
    drawn = np.sort(np.random.default_rng(3).choice(300, 100, replace=False))
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    assert np.allclose(first, np.sort(distances[:, drawn], axis=1)[:, :5].mean(1), atol=1e-6)
    assert (first == second).all()


def test_fewer_rows_than_neighbors_take_all_others():
    rows = torch.rand(3, 4)
    assert np.allclose(outlier_scores(rows, k=10), by_hand(rows, 2), atol=1e-6)


def test_by_default_50_neighbors_count_and_of_fewer_than_500_rows_a_tenth():
    rows = torch.from_numpy(np.random.default_rng(4).normal(size=(600, 6))).float()
    assert np.allclose(outlier_scores(rows), by_hand(rows, 50), atol=1e-6)
    assert np.allclose(outlier_scores(rows[:120]), by_hand(rows[:120], 12), atol=1e-6)
    assert np.allclose(outlier_scores(rows[:5]), by_hand(rows[:5], 1), atol=1e-6)


def test_a_group_of_20_from_elsewhere_that_are_alike_is_found():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1000, 8, generator=generator) + torch.tensor([3.0] + [0.0] * 7)
    group = 0.01 * torch.randn(20, 8, generator=generator) + torch.tensor([-3.0] + [0.0] * 7)
    scores = outlier_scores(torch.cat([rows, group]))
    assert set(np.argsort(-scores)[:20]) == set(range(1000, 1020))


def test_one_row_is_refused():
    with pytest.raises(InvalidValue, match="at least 2"):
        outlier_scores(torch.rand(1, 4))
