"""The temperature as a parameter of a learner."""

import pytest
import torch
from small import Pixels, batch, methods

from coview.methods import Learner
from coview.methods.temperature import LearnedTemperature
from coview.training import OptimizerSpec


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


def test_learned_temperature_begins_at_the_methods():
    for name, method in methods().items():
        found = Learner(method, Pixels())
        assert (found.temperature is not None) == name.endswith("-tau")
        if found.temperature is not None:
            assert found.temperature.value == pytest.approx(method.objective.temperature)
