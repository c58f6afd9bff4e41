import pytest
import torch
from torch import nn

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode
from coview.encoders import resnet
from coview.methods import Learner, simclr
from coview.training import LARS, OptimizerSpec


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("scaling", "base", "batch", "peak"),
    [
        ("linear", 0.3, 4096, 4.8),
        ("sqrt", 0.075, 4096, 4.8),
        ("linear", 1.0, 512, 2.0),
        ("none", 0.06, 512, 0.06),
    ],
)
def test_optimizer_peak_follows_the_batch_as_published(scaling, base, batch, peak):
    spec = OptimizerSpec(name="lars", learning_rate=base, scaling=scaling)
    assert spec.peak(batch) == pytest.approx(peak)


@pytest.mark.parametrize(
    ("exclude", "excluded"),
    [
        (("bias", "norm"), {"0.bias", "1.weight", "1.bias", "3.bias"}),
        (("norm",), {"1.weight", "1.bias"}),
        (("bias",), {"0.bias", "1.bias", "3.bias"}),
        ((), set()),
        (("3.*",), {"3.weight", "3.bias"}),
        (("norm", "*.weight"), {"0.weight", "1.weight", "1.bias", "3.weight"}),
    ],
)
def test_optimizer_groups_follow_kinds_and_patterns(exclude, excluded):
    groups = OptimizerSpec(name="sgd", learning_rate=1.0, exclude=exclude).groups(network())
    assert set(groups["excluded"]) == excluded
    everything = {name for name, _ in network().named_parameters()}
    assert set(groups["decayed"]) == everything - excluded


def test_optimizer_groups_of_a_resnet_are_its_kernels():
    learner = Learner(simclr(32), resnet(18, width=0.0625, stem="small"))
    groups = OptimizerSpec(name="lars", learning_rate=1.0).groups(learner)
    shapes = {name: p.ndim for name, p in learner.named_parameters()}
    assert all(shapes[name] >= 2 for name in groups["decayed"])
    assert all(shapes[name] == 1 for name in groups["excluded"])


def test_optimizer_attention_biases_are_biases_and_tables_of_biases_are_not():
    """torch's attention calls one "in_proj_bias"; a table of Swin has a row for each place."""
    module = nn.MultiheadAttention(4, 2)
    module.relative_position_bias = nn.Parameter(torch.ones(3, 2))
    groups = OptimizerSpec(name="lars", learning_rate=1.0).groups(module)
    assert set(groups["excluded"]) == {"in_proj_bias", "out_proj.bias"}


def test_optimizer_frozen_parameters_are_in_no_group():
    module = network()
    module[0].requires_grad_(False)
    groups = OptimizerSpec(name="sgd", learning_rate=1.0).groups(module)
    assert not any(name.startswith("0.") for names in groups.values() for name in names)


def test_optimizer_pattern_that_names_nothing_is_refused():
    with pytest.raises(InvalidValue, match="fc"):
        OptimizerSpec(name="sgd", learning_rate=1.0, exclude=("fc.*",)).build(network())


@pytest.mark.parametrize("exclude", [("bias", "norm"), ()])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_optimizer_decays_only_what_is_not_excluded(name, exclude):
    module = network()
    spec = OptimizerSpec(name=name, learning_rate=1.0, weight_decay=0.1, exclude=exclude)
    optimizer = spec.build(module)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    zero = {n for n, p in before.items() if not p.any()}  # BatchNorm's shift has nothing to lose
    assert moved == set(spec.groups(module)["decayed"]) - zero


def test_optimizer_kinds_are_the_named_rules():
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "lars": LARS}
    for name, kind in kinds.items():
        built = OptimizerSpec(name=name, learning_rate=1.0, momentum=0.8).build(network())
        assert type(built) is kind
    nesterov = OptimizerSpec(name="sgd", learning_rate=1.0, nesterov=True).build(network())
    assert nesterov.param_groups[0]["nesterov"] is True


def test_optimizer_adamw_takes_momentum_as_its_first_moment():
    built = OptimizerSpec(name="adamw", learning_rate=1.0, momentum=0.8).build(network())
    assert built.param_groups[0]["betas"] == (0.8, 0.999)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1e-4},
        {"momentum": 1.0},
        {"nesterov": True, "momentum": 0.0},
        {"nesterov": True, "name": "lars"},
    ],
)
def test_optimizer_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidValue):
        OptimizerSpec(**{"name": "sgd", "learning_rate": 0.1, **wrong})


@pytest.mark.parametrize("wrong", [{"name": "lasr"}, {"scaling": "liner"}])
def test_optimizer_unknown_names_offer_the_nearest(wrong):
    with pytest.raises(UnknownName, match="Did you mean"):
        OptimizerSpec(**{"name": "sgd", "learning_rate": 0.1, **wrong})


def test_optimizer_spec_survives_json():
    spec = OptimizerSpec(name="lars", learning_rate=0.3, exclude=("norm", "head.*"))
    assert decode(encode(spec), [OptimizerSpec]) == spec
