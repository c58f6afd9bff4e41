"""First values: a function of specification and seed."""

import math

import pytest
import torch

from coview.core.files import digest
from coview.encoders import EncoderSpec, parse_encoder, resnet
from coview.encoders.residual import BasicBlock, Bottleneck


def state_digest(network):
    return digest(b"".join(t.numpy().tobytes() for t in network.state_dict().values()))


@pytest.mark.parametrize(
    "name", ["resnet18/4-small", "resnet50/4+sk", "torchvision:mnasnet0_5", "timm:resnet10t"]
)
def test_first_values_depend_on_the_seed_alone(name):
    spec = parse_encoder(name)
    torch.manual_seed(1)
    first = state_digest(spec.build(7))
    torch.manual_seed(2)
    assert state_digest(spec.build(7)) == first
    assert state_digest(spec.build(8)) != first


@pytest.mark.parametrize("name", ["resnet18/4-small", "torchvision:resnet18"])
def test_building_leaves_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    parse_encoder(name).build()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fan_out_weights_have_the_deviation_of_he():
    weight = resnet(50, width=0.5).layer3[1].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.01)


def test_fan_in_weights_are_a_truncated_normal_of_unit_gain():
    weight = resnet(50, width=0.5, init="fan-in").layer3[0].downsample[0].weight
    std = math.sqrt(1 / 256)
    assert weight.std().item() == pytest.approx(std, rel=0.01)
    assert weight.abs().max().item() <= 2 * std / 0.8796256610342398 * (1 + 1e-6)
    assert weight.abs().max().item() > 2 * std


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("zero_init_residual", [True, False])
def test_last_norm_of_every_branch_starts_at_zero_where_asked(depth, zero_init_residual):
    network = resnet(depth, width=0.125, zero_init_residual=zero_init_residual)
    blocks = [m for m in network.modules() if isinstance(m, (BasicBlock, Bottleneck))]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    zeros = [norm for norm in norms if (norm.weight == 0).all()]
    assert [id(norm) for norm in zeros] == (
        [id(block.last_norm) for block in blocks] if zero_init_residual else []
    )
    assert all((norm.weight == 1).all() for norm in norms if id(norm) not in map(id, zeros))


def test_norms_start_as_the_published_ones():
    for module in EncoderSpec(depth=50, width=0.125, selective_kernels=True).build().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0


def test_zero_initialized_block_is_the_identity():
    block = resnet(18, width=0.125).eval().layer1[0]
    x = torch.rand(2, 8, 5, 5)
    assert torch.equal(block(x), x)
