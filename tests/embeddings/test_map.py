import pytest
import torch

from coview.core.errors import InvalidValue, MissingExtra
from coview.embeddings.map import (
    fast_tsne,
    has_opentsne,
    into_unit_square,
    landmark_tsne,
    tsne,
)


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


def test_landmarks_keep_the_groups_together():
    rows, labels = three_groups()
    points = landmark_tsne(rows, landmarks=45)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert (labels[distances.argmin(1)] == labels).double().mean() > 0.95
    assert (landmark_tsne(rows, landmarks=45) == points).all()
    assert (landmark_tsne(rows) == tsne(rows)).all()


def test_a_row_that_is_no_landmark_lies_among_its_nearest_landmarks():
    rows, _ = three_groups()
    twice = torch.cat([rows, rows])
    points = landmark_tsne(twice, landmarks=150)
    apart = (points[:90] - points[90:]).norm(dim=1)
    assert apart.median() < 0.05


def test_both_axes_have_one_scale():
    points = into_unit_square(torch.tensor([[0.0, 0.0], [2.0, 1.0]]))
    assert points.tolist() == [[0.0, 0.25], [1.0, 0.75]]


def test_many_landmarks_without_the_package_name_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("coview.embeddings.map.MAX_TSNE", 6)
    with pytest.raises(MissingExtra, match=r"coview\[map\]"):
        landmark_tsne(torch.rand(8, 3), landmarks=7)
    assert landmark_tsne(torch.rand(8, 3)).shape == (8, 2)


@pytest.mark.skipif(not has_opentsne(), reason="needs the extra map")
def test_fast_tsne_keeps_groups_together_and_is_repeatable():
    rows, labels = three_groups()
    points = fast_tsne(rows, perplexity=10)
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (fast_tsne(rows, perplexity=10) == points).all()
    assert points.min() == 0
    assert points.max() == 1
