import pytest
import torch
from slow_losses import random_views

from coview.core.errors import InvalidValue
from coview.objectives import nt_xent
from coview.objectives.inputs import normalize_views
from coview.objectives.log_partition import log_partition


def dense(rows, temperature, log_weights=None):
    logits = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    if log_weights is not None:
        logits = logits + log_weights
    return logits.logsumexp(1)


def run(function, rows, upstream):
    rows = rows.detach().requires_grad_()
    value = function(rows)
    value.backward(upstream)
    return value.detach(), rows.grad


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("tile", [1, 2, 3, 7, 16, 41, 42, 64])
def test_log_partition_any_tile_equals_the_dense_form(tile, temperature):
    rows = normalize_views(random_views(2, 21, 5))
    upstream = torch.linspace(-1, 2, 42, dtype=torch.float64)
    tiled = run(lambda z: log_partition(z, temperature, tile=tile), rows, upstream)
    whole = run(lambda z: dense(z, temperature), rows, upstream)
    for one, two in zip(tiled, whole, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 3, 16, 64])
def test_log_partition_any_tile_with_asymmetric_weights(tile):
    rows = normalize_views(random_views(2, 10, 5))
    weights = torch.rand(20, 20, generator=torch.Generator().manual_seed(1)).double()
    weights[weights < 0.2] = 0
    log_weights = weights.log()
    upstream = torch.linspace(-1, 2, 20, dtype=torch.float64)
    tiled = run(
        lambda z: log_partition(z, 0.1, tile=tile, log_weights=lambda a, b: log_weights[a, b]),
        rows,
        upstream,
    )
    whole = run(lambda z: dense(z, 0.1, log_weights), rows, upstream)
    for one, two in zip(tiled, whole, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)


def test_log_partition_row_count_over_one_default_tile():
    rows = normalize_views(random_views(2, 703, 9, dtype=torch.float32))
    assert torch.allclose(log_partition(rows, 0.1), dense(rows, 0.1), atol=1e-5)


def test_log_partition_of_a_row_without_keys_is_minus_infinity_with_zero_gradient():
    rows = torch.ones(1, 3).requires_grad_()
    value = log_partition(rows, 0.5)
    assert value.item() == -torch.inf
    value.backward(torch.zeros(1))
    assert torch.equal(rows.grad, torch.zeros(1, 3))


def test_log_partition_refuses_own_candidates_without_candidates():
    with pytest.raises(InvalidValue, match="`own`"):
        log_partition(torch.eye(3), 0.5, own=torch.arange(3))


def test_log_partition_gradient_is_the_kernel_of_the_equation():
    """dL/dZ = ((P - T) + (P - T)^T) Z / (tau M) for NT-Xent, T = 1 at the other view."""
    views = random_views(2, 8, 5)
    rows = normalize_views(views).requires_grad_()
    other_views = rows.roll(8, 0)
    (log_partition(rows, 0.3) - (rows * other_views).sum(1) / 0.3).mean().backward()
    z = rows.detach()
    p = (z @ z.T / 0.3).fill_diagonal_(-torch.inf).softmax(1)
    t = torch.eye(16, dtype=torch.float64).roll(8, 0)
    assert torch.allclose(rows.grad, ((p - t) + (p - t).T) @ z / (0.3 * 16), atol=1e-14)


def test_log_partition_second_derivative_is_refused_in_a_sentence():
    views = [view.requires_grad_() for view in random_views(2, 4, 3)]
    with pytest.raises(InvalidValue, match="first derivatives only"):
        torch.autograd.grad(nt_xent(views, temperature=0.5), views, create_graph=True)
