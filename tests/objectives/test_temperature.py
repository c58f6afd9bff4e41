"""A learned temperature: its gradient is that of finite differences, and no other value changes."""

import pytest
import torch
from every_objective import AT_TEMPERATURE
from slow_losses import random_views

from coview.core.errors import InvalidValue
from coview.objectives import nt_xent


@pytest.fixture(params=[1024, 4], ids=["one tile", "small tiles"])
def tiles(request, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", request.param)


@pytest.mark.parametrize("temperature", [0.02, 0.3])
@pytest.mark.parametrize("name", sorted(AT_TEMPERATURE))
def test_learned_temperature_gradcheck(name, temperature, tiles):
    objective = AT_TEMPERATURE[name]
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    views = [view.requires_grad_() for view in random_views(2, 7, 5)]
    assert torch.autograd.gradcheck(lambda t, *v: objective(v, t), [tau, *views])


@pytest.mark.parametrize("name", sorted(AT_TEMPERATURE))
def test_learned_temperature_has_the_value_and_gradient_of_the_number(name):
    objective = AT_TEMPERATURE[name]
    found = []
    for tau in (0.2, torch.tensor(0.2, dtype=torch.float64, requires_grad=True)):
        views = [view.requires_grad_() for view in random_views(2, 7, 5)]
        loss = objective(views, tau)
        loss.backward()
        found.append([loss.detach(), *(view.grad for view in views)])
    for number, tensor in zip(*found, strict=True):
        assert torch.equal(number, tensor)


def test_learned_temperature_alone_takes_a_gradient_where_the_embeddings_take_none():
    tau = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    for name, objective in AT_TEMPERATURE.items():
        frozen, free = random_views(2, 7, 5), [v.requires_grad_() for v in random_views(2, 7, 5)]
        (alone,) = torch.autograd.grad(objective(frozen, tau), tau)
        (beside,) = torch.autograd.grad(objective(free, tau), tau)
        assert torch.equal(alone, beside), name
        assert alone.abs() > 1e-3, name


@pytest.mark.parametrize("wrong", [0.0, -0.1, float("nan"), float("inf")])
def test_learned_temperature_out_of_range_is_refused(wrong):
    with pytest.raises(InvalidValue, match="temperature"):
        nt_xent(random_views(2, 3, 4), temperature=torch.tensor(wrong))


def test_a_tensor_of_several_temperatures_is_refused():
    with pytest.raises(InvalidValue, match="temperature"):
        nt_xent(random_views(2, 3, 4), temperature=torch.tensor([0.1, 0.2]))
