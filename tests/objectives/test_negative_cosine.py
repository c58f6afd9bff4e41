import pytest
import torch
from slow_losses import between, example, mean, random_views

from coview.core.errors import InvalidValue
from coview.objectives import negative_cosine


def test_negative_cosine_known_values_of_simsiam_and_byol():
    one, two = example()
    directions = [negative_cosine(one, two).item(), negative_cosine(two, one).item()]
    assert mean(directions) == pytest.approx(-0.130833, abs=1e-6)
    assert [2 + 2 * d for d in directions] == pytest.approx([1.738334] * 2, abs=1e-6)
    assert sum(2 + 2 * d for d in directions) == pytest.approx(3.476669, abs=2e-6)


def test_negative_cosine_equals_the_loop():
    one, two = random_views(2, 7, 5)
    expected = -mean(row[i] for i, row in enumerate(between(one, two)))
    assert negative_cosine(one, two).item() == pytest.approx(expected, rel=1e-13)


def test_negative_cosine_bounds():
    rows = random_views(1, 5, 4)[0]
    assert negative_cosine(rows, 3 * rows).item() == pytest.approx(-1)
    assert negative_cosine(rows, -rows).item() == pytest.approx(1)


def test_negative_cosine_gradcheck_and_detaches_nothing():
    given = [view.requires_grad_() for view in random_views(2, 4, 3)]
    assert torch.autograd.gradcheck(negative_cosine, given)
    negative_cosine(*given).backward()
    assert all(view.grad.norm() > 0.01 for view in given)


def test_negative_cosine_of_a_zero_row_is_zero_and_finite():
    one, two = random_views(2, 3, 4, dtype=torch.float16)
    one[1] = 0
    one.requires_grad_()
    loss = negative_cosine(one, two)
    loss.backward()
    assert loss.dtype == torch.float32
    cosines = between(one.detach()[[0, 2]], two[[0, 2]])
    expected = -(cosines[0][0] + cosines[1][1]) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-3)
    assert torch.isfinite(one.grad).all()


def test_negative_cosine_refuses_other_shapes():
    for wrong in (torch.ones(3, 4), torch.ones(4, 3), torch.ones(4, 4, dtype=torch.int64)):
        with pytest.raises(InvalidValue):
            negative_cosine(torch.ones(4, 4), wrong)
    with pytest.raises(InvalidValue, match="empty"):
        negative_cosine(torch.ones(0, 4), torch.ones(0, 4))
