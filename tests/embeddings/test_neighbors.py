import sys

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from coview.core.errors import InvalidValue
from coview.embeddings.neighbors import neighbors

# The package exports a function of the same name, which hides the module.
MODULE = sys.modules["coview.embeddings.neighbors"]


def rows(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 5, 50])
def test_neighbors_equal_those_of_scikit_learn(k):
    bank, queries = rows(50, 6), rows(33, 6, seed=1)
    oracle = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine")
    distances, places = oracle.fit(bank.double().numpy()).kneighbors(queries.double().numpy())
    cosines, found = neighbors(bank, queries, k)
    assert found.tolist() == places.tolist()
    assert torch.allclose(cosines, 1 - torch.from_numpy(distances).float(), atol=1e-5)


@pytest.mark.parametrize("numbers", [100, 10**6])
def test_neighbors_with_exclude_are_those_of_the_other_rows(numbers, monkeypatch):
    monkeypatch.setattr(MODULE, "CHUNK_NUMBERS", numbers)
    bank = rows(40, 6)
    bank[7] = bank[3]  # an exact copy stays a neighbor
    cosines, found = neighbors(bank, bank, 5, exclude=torch.arange(40))
    for row in range(40):
        others = torch.cat([bank[:row], bank[row + 1 :]])
        expected = neighbors(others, bank[row : row + 1], 5)
        assert torch.allclose(cosines[row], expected[0][0], atol=1e-6)
        assert found[row].tolist() == (expected[1][0] + (expected[1][0] >= row)).tolist()
    assert found[3, 0] == 7
    assert neighbors(bank, bank, 99, exclude=torch.arange(40))[1].shape == (40, 39)


@pytest.mark.parametrize("numbers", [1, 100, 777, 10**6])
def test_neighbors_do_not_depend_on_the_chunk(numbers, monkeypatch):
    bank, queries = rows(50, 6), rows(33, 6, seed=1)
    whole = neighbors(bank, queries, 7)
    monkeypatch.setattr(MODULE, "CHUNK_NUMBERS", numbers)
    chunked = neighbors(bank, queries, 7)
    assert torch.equal(whole[1], chunked[1])
    assert torch.allclose(whole[0], chunked[0], atol=1e-6)


def test_neighbors_of_equal_cosine_are_in_order_of_row():
    directions = torch.eye(4)
    bank = directions[[3, 1, 2, 1, 1, 0, 1, 2]]
    cosines, places = neighbors(bank, directions[[1, 2, 3]], 3)
    assert places.tolist() == [[1, 3, 4], [2, 7, 0], [0, 1, 2]]
    assert cosines.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(("k", "width"), [(0, 4), (3, 5)])
def test_neighbors_refuse_k_below_1_and_other_widths(k, width):
    with pytest.raises(InvalidValue):
        neighbors(torch.randn(6, 4), torch.randn(2, width), k)
