import pytest
import torch

from coview.core.errors import InvalidValue
from coview.embeddings.map import tsne


def three_groups():
    generator = torch.Generator().manual_seed(0)
    centers = torch.eye(3, 16) * 3
    labels = torch.arange(90) % 3
    return centers[labels] + 0.3 * torch.randn(90, 16, generator=generator), labels


def test_groups_stay_together_on_the_map():
    rows, labels = three_groups()
    points = tsne(rows, perplexity=10)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert (labels[distances.argmin(1)] == labels).all()


def test_map_lies_in_the_unit_square_and_is_repeatable():
    rows, _ = three_groups()
    first, second = tsne(rows), tsne(rows)
    assert (first == second).all()
    assert first.min() == 0
    assert first.max() == 1


def test_map_does_not_depend_on_the_threads_of_torch():
    rows, _ = three_groups()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = tsne(rows)
        torch.set_num_threads(4)
        second = tsne(rows)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(threads)
    assert (first == second).all()


@pytest.mark.parametrize(
    "rows", [torch.ones(4, 3), torch.zeros(9, 5), torch.rand(7, 1), torch.eye(4)]
)
def test_map_of_few_or_identical_rows_is_finite(rows):
    points = tsne(rows)
    assert points.shape == (len(rows), 2)
    assert points.isfinite().all()
    assert points.min() >= 0
    assert points.max() <= 1


def test_map_refuses_fewer_than_four_rows():
    with pytest.raises(InvalidValue, match="at least 4"):
        tsne(torch.eye(3))
