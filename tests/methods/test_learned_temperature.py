"""The temperature as a parameter of a learner."""

import math
from itertools import pairwise

import pytest
import torch
from small import Pixels, batch, methods

from coview.core.errors import InvalidValue
from coview.methods import Learner, SupCon
from coview.methods.temperature import LearnedTemperature
from coview.training import OptimizerSpec
from coview.training.precision import Precision
from coview.training.step import train_step


@pytest.mark.parametrize(
    ("start", "wild", "bound"),
    [(0.2, -99.0, 0.01), (0.2, 99.0, 1.0), (0.005, -99.0, 0.005), (3.0, 99.0, 3.0)],
)
def test_learned_temperature_comes_back_to_its_bounds(start, wild, bound):
    found = LearnedTemperature(start)
    assert found.value == pytest.approx(start)
    found.commit()
    assert found.value == pytest.approx(start)
    found.log.data.fill_(wild)
    found.commit()
    assert found.value == pytest.approx(bound)


def test_learned_temperature_settles_after_a_step_not_before():
    found = Learner(methods()["simclr-tau"], Pixels())
    found.loss(batch(), 0)
    with torch.no_grad():
        found.temperature.log.fill_(50.0)
    found.after_step(0)
    assert found.temperature.value == pytest.approx(1.0)


@pytest.mark.parametrize("exclude", [(), ("bias", "norm")])
@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_learned_temperature_is_never_decayed_and_moves(name, exclude):
    found = Learner(methods()["moco-tau"], Pixels())
    spec = OptimizerSpec(name=name, learning_rate=0.1, weight_decay=0.5, exclude=exclude)
    assert "temperature.log" in spec.groups(found)["excluded"]
    optimizer = spec.build(found)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    before = found.temperature.value
    found.loss(batch(), 0)["InfoNCE"].backward()
    optimizer.step()
    assert found.temperature.value != before


@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_learned_temperature_is_steady_at_the_rates_of_sgd_and_lars(name):
    """At the rate of the network one step leads from one bound to the other."""
    found = Learner(methods()["simclr-tau"], Pixels())
    optimizer = OptimizerSpec(name=name, learning_rate=2.0, scaling="none").build(found)
    values = [found.temperature.value]
    for step in range(60):
        rate = 2.0 if name == "lars" else 0.2
        train_step(found, batch(seed=step), optimizer, rate, Precision(torch.device("cpu"), "fp32"))
        values.append(found.temperature.value)
    changes = [abs(math.log(after / before)) for before, after in pairwise(values)]
    assert 0 < max(changes) < 0.2
    assert LearnedTemperature.highest_rate < 0.02


def test_only_what_has_a_highest_rate_is_held_to_it():
    found = Learner(methods()["simclr-tau"], Pixels())
    optimizer = OptimizerSpec(name="adamw", learning_rate=1.0).build(found)
    for rate in (0.002, 0.5):
        train_step(found, batch(), optimizer, rate, Precision(torch.device("cpu"), "fp32"))
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for key, parameter in found.named_parameters():
            expected = min(rate, 0.01) if key == "temperature.log" else rate
            assert rates[id(parameter)] == expected


@pytest.mark.parametrize("form", ["out", "in"])
def test_temperature_of_a_scaled_loss_cannot_be_learned(form):
    with pytest.raises(InvalidValue, match="`scale_by_temperature` and `learn_temperature` do not"):
        SupCon(temperature=0.1, form=form, scale_by_temperature=True, learn_temperature=True)


def test_learned_temperature_begins_at_the_methods():
    for name, method in methods().items():
        found = Learner(method, Pixels())
        assert (found.temperature is not None) == name.endswith("-tau")
        if found.temperature is not None:
            assert found.temperature.value == pytest.approx(method.objective.temperature)
