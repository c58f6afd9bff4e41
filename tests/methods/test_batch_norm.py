"""Ghost and synchronized BatchNorm against torch's own layers and slow loops, in float64."""

import copy

import pytest
import torch
from torch import nn

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.encoders import parse_encoder, resnet
from coview.heads import HeadSpec
from coview.methods.batch_norm import RunningStatsGuard, batch_norms, set_batch_norm
from processes import together

SIZES = {2: [(3, 3), (5, 1), (0, 4)], 4: [(2, 2, 2, 2), (4, 1, 3, 2), (0, 3, 0, 1)]}
EXACT = {"rtol": 1e-11, "atol": 1e-12}


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(dims=2, **options):
    """A layer of 3 channels whose parameters and running statistics are no defaults."""
    norm = (nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d)(3, dtype=torch.float64, **options)
    with torch.no_grad():
        for number, (name, tensor) in enumerate(norm.state_dict().items()):
            if "num" not in name:
                tensor.copy_(noise(3, seed=number).abs() + 0.5)
    return norm


def loss_of(y):
    """Not symmetric in rows, channels or places, and of a gradient that is not constant."""
    weights = noise(*y.shape, seed=9)
    return (weights * y).exp().sum()


def assert_same_state(one, other):
    for (name, a), (again, b) in zip(
        one.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == again
        torch.testing.assert_close(a, b, **EXACT)


def synchronized_equals_one_process(ranks, norm, shape, sizes):
    whole = (noise(sum(sizes), *shape) * 3 + 1000).requires_grad_()
    reference = copy.deepcopy(norm)
    for _ in range(2):
        expected = reference(whole)
    weights = noise(*expected.shape, seed=9)
    (weights * expected).exp().sum().backward()

    set_batch_norm(norm, ranks=ranks)
    x = whole.detach().split(sizes)[ranks.rank].clone().requires_grad_()
    for _ in range(2):
        y = norm(x)
    own = weights.split(sizes)[ranks.rank]
    (own * y).exp().sum().backward()
    near = {"rtol": 1e-8, "atol": 1e-9}  # the mean of 1000 takes three digits
    torch.testing.assert_close(y, expected.split(sizes)[ranks.rank], **near)
    torch.testing.assert_close(x.grad, whole.grad.split(sizes)[ranks.rank], **near)
    for mine, theirs in zip(norm.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ranks.all_reduce_sum(mine.grad), theirs.grad, **near)
    for (name, mine), theirs in zip(norm.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name, **near)


def check_synchronized_layer_equals_one_process(ranks):
    for sizes in SIZES[ranks.world]:
        for options in ({}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}):
            synchronized_equals_one_process(ranks, layer(2, **options), (3, 4, 5), sizes)
        synchronized_equals_one_process(ranks, layer(1), (3,), sizes)
    scale_only = layer(1)
    scale_only.register_parameter("bias", None)
    synchronized_equals_one_process(ranks, scale_only, (3,), SIZES[ranks.world][1])


def check_variance_of_values_far_from_zero_keeps_its_digits(ranks):
    generator = torch.Generator().manual_seed(1)
    whole = torch.randn(16 * ranks.world, 3, generator=generator) + 4096
    norm = nn.BatchNorm1d(3)
    set_batch_norm(norm, ranks=ranks)
    y = norm(whole.chunk(ranks.world)[ranks.rank])
    exact = whole.double()
    exact = (exact - exact.mean(0)) / (exact.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(y.double(), exact.chunk(ranks.world)[ranks.rank], rtol=0, atol=1e-3)


def check_whole_network_equals_one_process(ranks):
    sizes = SIZES[ranks.world][1]
    images = noise(sum(sizes), 3, 12, 12).abs()
    network = nn.Sequential(
        resnet(18, width=0.125, stem="small", zero_init_residual=False),
        HeadSpec(output=8).build(64, 0),
    ).double()
    reference = copy.deepcopy(network)
    loss_of(reference(images)).backward()
    set_batch_norm(network, ranks=ranks)
    z = ranks.gather(network(images.split(sizes)[ranks.rank]), sizes)
    (loss_of(z) / ranks.world).backward()
    for (name, mine), theirs in zip(
        network.named_parameters(), reference.parameters(), strict=True
    ):
        torch.testing.assert_close(
            ranks.all_reduce_sum(mine.grad), theirs.grad, rtol=1e-7, atol=1e-9, msg=name
        )
    for (name, mine), theirs in zip(network.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10, msg=name)


def check_groups_of_all_processes_equal_those_of_one(ranks):
    for group in (4, 2):
        whole = noise(4 * ranks.world, 3, 2, 2).requires_grad_()
        one, shared = layer(), layer()
        set_batch_norm(one, ghost_batch_size=group)
        set_batch_norm(shared, ranks=ranks, ghost_batch_size=group)
        expected = one(whole)
        x = whole.detach().chunk(ranks.world)[ranks.rank].clone().requires_grad_()
        y = shared(x)
        torch.testing.assert_close(y, expected.chunk(ranks.world)[ranks.rank], **EXACT)
        assert_same_state(shared, one)
        expected.exp().sum().backward()
        y.exp().sum().backward()
        torch.testing.assert_close(x.grad, whole.grad.chunk(ranks.world)[ranks.rank], **EXACT)


def check_held_statistics_stay(ranks):
    norm = layer()
    set_batch_norm(norm, ranks=ranks)
    before = copy.deepcopy(norm.state_dict())
    x = noise(2, 3, 2, 2, seed=ranks.rank)
    with RunningStatsGuard(batch_norms(norm)):
        held = norm(x)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(held, norm(x))
    assert not torch.equal(norm.running_mean, before["running_mean"])


def check_bfloat16_is_normalized_in_float32(ranks):
    whole = noise(4 * ranks.world, 3, 2, 2).bfloat16()
    norm = nn.BatchNorm2d(3)
    set_batch_norm(norm, ranks=ranks)
    y = norm(whole.chunk(ranks.world)[ranks.rank])
    assert y.dtype == torch.bfloat16
    exact = nn.BatchNorm2d(3)(whole.float()).bfloat16().chunk(ranks.world)[ranks.rank]
    torch.testing.assert_close(y, exact, rtol=1e-2, atol=1e-2)


def check_one_value_over_all_processes_is_refused_by_all(ranks):
    norm = layer(1)
    set_batch_norm(norm, ranks=ranks)
    with pytest.raises(InvalidValue, match="at least 2 values"):
        norm(noise(1 if ranks.is_main else 0, 3))


def check_layer_in_evaluation_is_torchs(ranks):
    norm, reference = layer().eval(), layer().eval()
    set_batch_norm(norm, ranks=ranks)
    x = noise(2 + ranks.rank, 3, 2, 2)
    assert torch.equal(norm(x), reference(x))


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


@pytest.fixture(scope="module", params=[2, 4])
def faults(request):
    return together(request.param, CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_processes(check, faults):
    assert "\n".join(faults[check.__name__]).strip() == ""


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_equal_a_loop_over_them(groups, momentum):
    norm = layer(momentum=momentum)
    before = copy.deepcopy(norm)
    set_batch_norm(norm, ghost_batch_size=12 // groups)
    x = (noise(12, 3, 2, 4) * 2 + 1).requires_grad_()
    slow = x.detach().clone().requires_grad_()
    parts, means, variances = [], [], []
    for part in slow.chunk(groups):
        rows = part.transpose(0, 1).reshape(3, -1)
        mean, variance = rows.mean(1), rows.var(1, correction=0)
        u = (part - mean.view(3, 1, 1)) / (variance + 1e-5).sqrt().view(3, 1, 1)
        parts.append(u * before.weight.view(3, 1, 1) + before.bias.view(3, 1, 1))
        means.append(mean.detach())
        variances.append(rows.var(1).detach())
    y, expected = norm(x), torch.cat(parts)
    torch.testing.assert_close(y, expected, **EXACT)
    loss_of(y).backward()
    loss_of(expected).backward()
    torch.testing.assert_close(x.grad, slow.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(norm.weight.grad, before.weight.grad, rtol=1e-9, atol=1e-10)
    share = 1.0 if momentum is None else momentum  # the first batch of a cumulative mean
    for now, was, seen in (
        (norm.running_mean, before.running_mean, means),
        (norm.running_var, before.running_var, variances),
    ):
        torch.testing.assert_close(now, (1 - share) * was + share * sum(seen) / groups, **EXACT)
    assert norm.num_batches_tracked == 1


def test_one_group_is_torchs_own_layer():
    norm, reference = layer(), layer()
    set_batch_norm(norm, ghost_batch_size=2)
    set_batch_norm(norm)
    assert type(norm) is nn.BatchNorm2d
    x = noise(4, 3, 2, 2)
    assert torch.equal(norm(x), reference(x))
    assert_same_state(norm, reference)


def test_frozen_layer_uses_and_keeps_its_running_statistics():
    norm, reference = layer(), layer().eval()
    set_batch_norm(norm, frozen=True)
    x, again = (noise(4, 3, 2, 2).requires_grad_() for _ in range(2))
    y, expected = norm(x), reference(again)
    assert torch.equal(y, expected)
    loss_of(y).backward()
    loss_of(expected).backward()
    assert torch.equal(x.grad, again.grad)
    assert torch.equal(norm.weight.grad, reference.weight.grad)
    assert_same_state(norm, layer())


@pytest.mark.parametrize("choice", [{}, {"ghost_batch_size": 2}])
def test_held_statistics_neither_move_nor_change_the_output(choice):
    norm = layer()
    set_batch_norm(norm, **choice)
    x = noise(4, 3, 2, 2)
    with RunningStatsGuard(batch_norms(norm)):
        held = norm(x)
    assert_same_state(norm, layer())
    assert torch.equal(held, norm(x))
    assert norm.num_batches_tracked == 1


def test_held_statistics_come_back_after_an_error():
    norm = layer()
    before = dict(norm.named_buffers())
    with pytest.raises(RuntimeError, match="stop"), RunningStatsGuard([norm]):
        raise RuntimeError("stop")
    assert all(before[name] is buffer for name, buffer in norm.named_buffers())


NETWORKS = {
    "ours": lambda: resnet(18, width=0.125, stem="small"),
    "torchvision": lambda: parse_encoder("torchvision:resnet18").build(),
    "timm": lambda: parse_encoder("timm:mobilenetv3_small_050").build(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_their_names_parameters_and_modes(name):
    network = NETWORKS[name]()
    network = network.double()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    names, held = list(network.state_dict()), dict(network.named_parameters())
    reference = copy.deepcopy(network)
    set_batch_norm(network, ghost_batch_size=2)
    assert list(network.state_dict()) == names
    assert all(held[key] is value for key, value in network.named_parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    images = noise(4, 3, 32, 32)
    again = copy.deepcopy(network)
    y = network(images)
    torch.testing.assert_close(y, again(images), **EXACT)
    parts = torch.cat([reference(part) for part in images.chunk(2)])
    torch.testing.assert_close(y, parts, rtol=1e-9, atol=1e-9)
    set_batch_norm(network)
    network.load_state_dict(reference.state_dict(), strict=True)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images), **EXACT)


def test_copy_of_a_patched_network_talks_to_the_same_ranks():
    ranks = Ranks(rank=1, world=2, group=(object(),))
    norm = layer()
    set_batch_norm(norm, ranks=ranks)
    assert copy.deepcopy(norm).mode.ranks is ranks


class Peculiar(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [Peculiar, nn.SyncBatchNorm])
def test_layer_of_another_forward_is_refused_and_nothing_changes(kind):
    network = nn.Sequential(layer(), kind(3))
    with pytest.raises(InvalidValue, match=f"layer 1 is a {kind.__name__}"):
        set_batch_norm(network, ghost_batch_size=2)
    assert type(network[0]) is nn.BatchNorm2d


def test_group_of_one_row_is_refused():
    with pytest.raises(InvalidValue, match="at least 2"):
        set_batch_norm(layer(), ghost_batch_size=1)


def test_batch_that_is_no_multiple_has_groups_of_nearly_equal_size():
    norm, reference = layer(), layer()
    set_batch_norm(norm, ghost_batch_size=3)
    x = noise(7, 3, 2, 2)
    expected = torch.cat([reference(part) for part in x.split((4, 3))])
    torch.testing.assert_close(norm(x), expected, **EXACT)


def test_frozen_layer_without_statistics_is_refused():
    norm = layer(track_running_stats=False)
    set_batch_norm(norm, frozen=True)
    with pytest.raises(InvalidValue, match="cannot be frozen"):
        norm(noise(4, 3, 2, 2))


def test_alone_is_the_default():
    norm = layer()
    set_batch_norm(norm, ranks=SINGLE_PROCESS)
    assert type(norm) is nn.BatchNorm2d
