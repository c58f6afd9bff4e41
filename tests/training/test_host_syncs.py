"""A training step does not wait for a GPU, but to learn whether its numbers are finite.

Shown without a GPU: the network lies on "meta", where a tensor has a shape and no values.
"""

from dataclasses import replace

import pytest
import torch

from coview.methods import Passes, get_method, list_methods, logo
from coview.methods.set_objectives import NTXent, SupCon
from coview.methods.view_pair_objectives import MarginTriplet, NTLogistic
from coview.testing.device import DEVICE, HostSyncs, meta_autocast
from coview.testing.methods import make_batch, make_learner
from coview.training import OptimizerSpec
from coview.training.precision import Precision
from coview.training.step import seed_torch, train_step

FINITE = "training/step.py: train_step"
TEMPERATURE = {"objectives/inputs.py: real_number", "objectives/inputs.py: as_number"}
METHODS = {name: get_method(name)(8) for name in list_methods() if name != "logo"}
METHODS |= {
    "logo-critic": logo(METHODS["byol"]),
    "logo-ratio": logo(METHODS["simsiam"], gradient_ratio=0.015),
    "logo-queue": logo(METHODS["moco"], affinity="cosine"),
    "nt-logistic": replace(METHODS["simclr"], objective=NTLogistic(temperature=0.2)),
    "nt-logistic, semi-hard": replace(
        METHODS["simclr"], objective=NTLogistic(temperature=0.2, semi_hard=True)
    ),
    "margin-triplet": replace(METHODS["simclr"], objective=MarginTriplet(margin=0.4)),
    "supcon-in": replace(METHODS["supcon"], objective=SupCon(temperature=0.1, form="in")),
}  # fmt: skip


def syncs_of_a_step(method, *, passes=None, optimizer="lars"):
    learner = make_learner(method, passes=passes).to(DEVICE)
    build = OptimizerSpec(name=optimizer, learning_rate=0.1).build
    with meta_autocast(), HostSyncs() as syncs:
        step = train_step(
            learner, make_batch(method, 4), build(learner), 0.1, Precision(DEVICE, "fp32")
        )
    assert step.terms
    assert all(term.shape == () for term in step.terms.values())
    return syncs.places


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_its_finite_check_alone(name):
    assert syncs_of_a_step(METHODS[name]) == [FINITE]


@pytest.mark.parametrize("name", ["moco", "logo-critic"])
def test_micro_batches_are_chosen_without_waiting(name):
    assert syncs_of_a_step(METHODS[name], passes=Passes(micro_batch=2)) == [FINITE]


def test_a_learned_temperature_is_the_one_other_number_that_is_read():
    objective = NTXent(temperature=0.2, learn_temperature=True)
    places = syncs_of_a_step(replace(METHODS["simclr"], objective=objective))
    assert set(places) == {FINITE} | TEMPERATURE


def test_the_bytes_of_views_go_to_the_device_without_waiting():
    with HostSyncs() as syncs:
        batch = make_batch(METHODS["simclr"], 4).to(DEVICE)
    assert batch.views[0].device == DEVICE
    assert syncs.places == []


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: torch.ones(3, device="cpu").to(x.device),
        lambda x: x[torch.tensor([0, 1], device="cpu")],
        lambda x: x[:, None].scatter(
            1, torch.zeros_like(x, dtype=torch.int64)[:, None], x[:, None]
        ),
    ],
    ids=["item", "branch", "copy", "index of the host", "scatter of a tensor"],
)
def test_each_kind_of_waiting_is_noticed(operation):
    with HostSyncs() as syncs:
        operation(torch.ones(3, device=DEVICE))
    assert len(syncs.places) == 1


@pytest.mark.parametrize(
    "operation",
    [lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: x.cpu()],
    ids=["boolean index", "nonzero", "copy to the host"],
)
def test_what_needs_values_of_the_device_is_noticed(operation):
    with HostSyncs() as syncs, pytest.raises(NotImplementedError):
        operation(torch.ones(3, device=DEVICE))  # which has no values
    assert syncs.places


def test_the_gpu_of_the_run_is_seeded_not_the_current_one(monkeypatch):
    entered = []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            entered.append(self.device)

        def __exit__(self, *error):
            entered.append(None)

    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda word: entered.append("seed"))
    with torch.random.fork_rng(devices=[]):
        seed_torch(1, 2, torch.device("cuda", 3))
    assert entered == [torch.device("cuda", 3), "seed", None]
