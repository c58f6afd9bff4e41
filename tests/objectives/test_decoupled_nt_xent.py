import math

import pytest
import torch
from slow_losses import example, mean, random_views, slow_decoupled_rows

from coview.core.errors import InvalidValue
from coview.objectives import decoupled_nt_xent


@pytest.mark.parametrize(("temperature", "value"), [(0.1, 2.197133), (0.5, 0.990638)])
def test_decoupled_nt_xent_known_value(temperature, value):
    loss = decoupled_nt_xent(example(), temperature=temperature)
    assert loss.item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_decoupled_nt_xent_equals_the_loop(views, temperature):
    given = random_views(views, 5, 6)
    expected = mean(slow_decoupled_rows(given, temperature))
    loss = decoupled_nt_xent(given, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_decoupled_nt_xent_gradcheck(views, temperature):
    given = [view.requires_grad_() for view in random_views(views, 3, 4)]
    assert torch.autograd.gradcheck(lambda *v: decoupled_nt_xent(v, temperature=temperature), given)


@pytest.mark.parametrize("temperature", [0.005, 0.5])
def test_decoupled_nt_xent_of_equal_embeddings_is_the_log_of_the_negatives(temperature):
    view = torch.ones(100, 8)
    loss = decoupled_nt_xent([view, view], temperature=temperature).item()
    assert loss == pytest.approx(math.log(198), abs=5e-5)


def test_decoupled_nt_xent_of_one_image_is_zero_with_zero_gradient():
    given = [view.requires_grad_() for view in random_views(2, 1, 4)]
    loss = decoupled_nt_xent(given, temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(view.grad, torch.zeros_like(view)) for view in given)


def test_decoupled_nt_xent_refuses_one_view():
    with pytest.raises(InvalidValue, match="at least two"):
        decoupled_nt_xent(random_views(1, 4, 3), temperature=0.5)
