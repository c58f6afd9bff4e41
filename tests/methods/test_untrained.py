"""The BatchNorm statistics of an untrained network that is measured."""

from dataclasses import replace

import pytest
import torch

from coview.core.images import store_from_arrays
from coview.embeddings.geometry import feature_std
from coview.encoders import resnet
from coview.methods import Learner, simclr
from coview.methods.batch_norm import batch_norms
from coview.methods.untrained import settled
from coview.views import ViewPlan, eval_view, views_of
from small_run import pictures

VIEW = eval_view(12)
STORE = store_from_arrays(pictures(96)[0])


def learner(**changes: object) -> Learner:
    encoder = resnet(10, width=0.125, stem="small", seed=3)
    return Learner(replace(simclr(12), **changes), encoder)


def statistics(network: Learner) -> torch.Tensor:
    return torch.cat(
        [torch.cat([norm.running_mean, norm.running_var]) for norm in batch_norms(network)]
    )


def images() -> torch.Tensor:
    rows = torch.arange(len(STORE)).numpy()
    return views_of(STORE, rows, ViewPlan(views=(VIEW,)), seed=0, epoch=0)[0]


def test_settled_statistics_are_those_of_the_images():
    network = learner()
    first = settled(network, STORE, VIEW, seed=0).encoder
    h = network.encoder.conv1(images())
    assert torch.allclose(first.bn1.running_mean, h.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.bn1.running_var, h.var((0, 2, 3)), rtol=1e-4)


def test_settled_statistics_average_over_batches(monkeypatch):
    monkeypatch.setattr("coview.methods.untrained.BATCH", 50)
    network = learner()
    mean = network.encoder.conv1(images()).mean((0, 2, 3))
    copy = settled(network, STORE, VIEW, seed=0)
    # Two batches of 48 images: the mean of their means is that of all.
    assert torch.allclose(copy.encoder.bn1.running_mean, mean, atol=1e-5)
    assert int(copy.encoder.bn1.num_batches_tracked) == 2


def test_settled_leaves_the_learner_and_the_random_state_alone_and_repeats_exactly():
    network = learner()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    one, two = (settled(network, STORE, VIEW, seed=0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert torch.equal(statistics(one), statistics(two))


@pytest.mark.parametrize(
    "changes", [{"batch_norm": "ghost", "ghost_batch_size": 8}, {"batch_norm": "per view"}]
)
def test_settled_statistics_do_not_depend_on_how_training_groups_the_rows(changes):
    same = statistics(settled(learner(), STORE, VIEW, seed=0))
    assert torch.equal(statistics(settled(learner(**changes), STORE, VIEW, seed=0)), same)


def test_settled_keeps_frozen_and_loaded_statistics_and_networks_without_any():
    frozen = learner(batch_norm="frozen")
    assert torch.equal(statistics(settled(frozen, STORE, VIEW, seed=0)), statistics(frozen))
    loaded = learner()
    loaded.encoder.bn1.running_mean.fill_(0.25)
    copy = settled(loaded, STORE, VIEW, seed=0)
    assert torch.equal(copy.encoder.bn1.running_mean, loaded.encoder.bn1.running_mean)
    assert not torch.equal(statistics(copy), statistics(loaded))
    bare = learner()
    bare.encoder, bare.head = torch.nn.Flatten(), torch.nn.Linear(432, 8)
    assert batch_norms(settled(bare, STORE, VIEW, seed=0)) == []


def test_features_of_an_untrained_network_differ_once_its_statistics_are_settled():
    network = learner()
    raw, _ = network.embed(images())
    h, _ = settled(network, STORE, VIEW, seed=0).embed(images())
    assert feature_std(h) > 2 * feature_std(raw)
