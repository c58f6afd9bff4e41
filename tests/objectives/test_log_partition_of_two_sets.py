import pytest
import torch
from slow_losses import random_views

from coview.core.errors import InvalidValue
from coview.objectives.inputs import normalize_views
from coview.objectives.log_partition import log_partition


def two_sets(anchors=11, candidates=17, width=5, dtype=torch.float64):
    one = normalize_views(random_views(1, anchors, width, seed=1, dtype=dtype))
    other = normalize_views(random_views(1, candidates, width, seed=2, dtype=dtype))
    return one, other


def dense(anchors, candidates, temperature, own=None, log_weights=None):
    logits = anchors @ candidates.T / temperature
    if own is not None:
        logits = logits.masked_fill(own[:, None] == torch.arange(len(candidates)), -torch.inf)
    return (logits if log_weights is None else logits + log_weights).logsumexp(1)


def run(function, one, other):
    one, other = one.detach().requires_grad_(), other.detach().requires_grad_()
    value = function(one, other)
    value.backward(torch.linspace(-1, 2, len(value), dtype=value.dtype))
    return value.detach(), one.grad, other.grad


def assert_same(found, expected):
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("tile", [1, 2, 5, 11, 16, 17, 64])
def test_log_partition_of_two_sets_any_tile_equals_the_dense_form(tile, temperature):
    found = run(lambda a, c: log_partition(a, temperature, candidates=c, tile=tile), *two_sets())
    assert_same(found, run(lambda a, c: dense(a, c, temperature), *two_sets()))


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("tile", [1, 3, 16, 64])
def test_log_partition_of_two_sets_leaves_out_the_own_candidate(tile, temperature):
    own = torch.tensor([16, 0, 3, 3, 2, 1, 9, 8, 15, 7, 4])
    found = run(
        lambda a, c: log_partition(a, temperature, candidates=c, own=own, tile=tile), *two_sets()
    )
    assert_same(found, run(lambda a, c: dense(a, c, temperature, own), *two_sets()))


@pytest.mark.parametrize("tile", [1, 4, 64])
def test_log_partition_of_two_sets_weights_with_a_row_that_keeps_nothing(tile):
    weights = torch.rand(11, 17, generator=torch.Generator().manual_seed(1)).double()
    weights[weights < 0.3] = 0
    log_weights = weights.log()
    alive = torch.arange(11) != 4
    log_weights[4] = -torch.inf

    def tiled(a, c):
        value = log_partition(
            a, 0.1, candidates=c, tile=tile, log_weights=lambda i, j: log_weights[i, j]
        )
        assert value[4].item() == -torch.inf
        return value.where(alive, 0)

    found = run(tiled, *two_sets())
    expected = run(lambda a, c: dense(a[alive], c, 0.1, None, log_weights[alive]), *two_sets())
    upstream = torch.linspace(-1, 2, 11, dtype=torch.float64)
    one, other = (rows.requires_grad_() for rows in two_sets())
    value = dense(one[alive], other, 0.1, None, log_weights[alive])
    value.backward(upstream[alive])
    assert torch.allclose(found[0][alive], expected[0], rtol=1e-12)
    assert torch.allclose(found[1], one.grad, atol=1e-12)
    assert torch.allclose(found[2], other.grad, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_log_partition_of_two_sets_a_set_and_itself_is_log_partition(temperature):
    rows = normalize_views(random_views(2, 10, 6)).requires_grad_()
    one = log_partition(rows, temperature)
    two = log_partition(rows, temperature, candidates=rows, own=torch.arange(20))
    assert torch.allclose(one, two, rtol=1e-13)
    grads = [torch.autograd.grad(x.square().sum(), rows)[0] for x in (one, two)]
    assert torch.allclose(*grads, rtol=1e-10, atol=1e-13)


def test_log_partition_of_two_sets_gradcheck():
    own, mask = torch.tensor([0, 2, 4]), torch.zeros(3, 5, dtype=torch.float64)
    mask[1, 3] = -torch.inf
    given = [rows.requires_grad_() for rows in two_sets(3, 5, 4)]
    assert torch.autograd.gradcheck(
        lambda a, c: log_partition(
            a, 0.2, candidates=c, own=own, log_weights=lambda i, j: mask[i, j], tile=2
        ),
        given,
    )


@pytest.mark.parametrize("learns", [0, 1])
def test_log_partition_of_two_sets_detached_side_gets_nothing_and_the_other_all(learns):
    both = [rows.requires_grad_() for rows in two_sets()]
    log_partition(both[0], 0.2, candidates=both[1]).sum().backward()
    half = [rows.requires_grad_(i == learns) for i, rows in enumerate(two_sets())]
    log_partition(half[0], 0.2, candidates=half[1]).sum().backward()
    assert torch.equal(half[learns].grad, both[learns].grad)
    assert half[1 - learns].grad is None


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("sizes", [(0, 4), (4, 0), (0, 0)])
def test_log_partition_of_two_sets_empty_sets(sizes, temperature):
    one, other = torch.zeros(sizes[0], 3), torch.zeros(sizes[1], 3)
    one.requires_grad_(), other.requires_grad_()
    value = log_partition(one, temperature, candidates=other)
    value.backward(torch.ones_like(value))
    assert value.tolist() == [-torch.inf if sizes[1] == 0 else 0] * sizes[0]
    assert torch.equal(one.grad, torch.zeros_like(one))
    assert torch.equal(other.grad, torch.zeros_like(other))


def test_log_partition_of_two_sets_sets_over_one_default_tile():
    one, other = two_sets(1100, 2100, 8, torch.float32)
    assert torch.allclose(
        log_partition(one, 0.1, candidates=other), dense(one, other, 0.1), atol=1e-5
    )


def test_log_partition_of_two_sets_second_derivative_is_refused():
    one, other = (rows.requires_grad_() for rows in two_sets())
    value = log_partition(one, 0.5, candidates=other).sum()
    with pytest.raises(InvalidValue, match="first derivatives only"):
        torch.autograd.grad(value, one, create_graph=True)


def test_log_partition_of_two_sets_refuses_other_widths_or_types():
    for other in (torch.ones(3, 5), torch.ones(3, 4, dtype=torch.float64)):
        with pytest.raises(InvalidValue, match="one type and width"):
            log_partition(torch.ones(3, 4), 0.5, candidates=other)
