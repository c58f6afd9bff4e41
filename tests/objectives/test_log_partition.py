import pytest
import torch
from slow_losses import random_views
from torch.utils._python_dispatch import TorchDispatchMode

from coview.core.errors import InvalidValue
from coview.objectives import nt_xent, sup_con
from coview.objectives.log_partition import log_partition
from coview.objectives.rows import unit_rows


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
    rows = unit_rows(random_views(2, 21, 5))
    upstream = torch.linspace(-1, 2, 42, dtype=torch.float64)
    tiled = run(lambda z: log_partition(z, temperature, tile=tile), rows, upstream)
    whole = run(lambda z: dense(z, temperature), rows, upstream)
    for one, two in zip(tiled, whole, strict=True):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 3, 16, 64])
def test_log_partition_any_tile_with_asymmetric_weights(tile):
    rows = unit_rows(random_views(2, 10, 5))
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
    rows = unit_rows(random_views(2, 703, 9, dtype=torch.float32))
    assert torch.allclose(log_partition(rows, 0.1), dense(rows, 0.1), atol=1e-5)


def test_log_partition_of_a_row_without_keys_is_minus_infinity_with_zero_gradient():
    rows = torch.ones(1, 3).requires_grad_()
    value = log_partition(rows, 0.5)
    assert value.item() == -torch.inf
    value.backward(torch.zeros(1))
    assert torch.equal(rows.grad, torch.zeros(1, 3))


def test_log_partition_gradient_is_the_kernel_of_the_equation():
    """dL/dZ = ((P - T) + (P - T)^T) Z / (tau M) for NT-Xent, T = 1 at the sibling."""
    views = random_views(2, 8, 5)
    rows = unit_rows(views).requires_grad_()
    siblings = rows.roll(8, 0)
    (log_partition(rows, 0.3) - (rows * siblings).sum(1) / 0.3).mean().backward()
    z = rows.detach()
    p = (z @ z.T / 0.3).fill_diagonal_(-torch.inf).softmax(1)
    t = torch.eye(16, dtype=torch.float64).roll(8, 0)
    assert torch.allclose(rows.grad, ((p - t) + (p - t).T) @ z / (0.3 * 16), atol=1e-14)


def test_log_partition_second_derivative_is_refused_in_a_sentence():
    views = [view.requires_grad_() for view in random_views(2, 4, 3)]
    with pytest.raises(InvalidValue, match="first derivatives only"):
        torch.autograd.grad(nt_xent(views, temperature=0.5), views, create_graph=True)


class Sizes(TorchDispatchMode):
    """Records the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor):
                self.largest = max(self.largest, item.untyped_storage().nbytes() // 4)
        return result


def largest_tensor(loss, images, width=4):
    views = [view.requires_grad_() for view in random_views(2, images, width, dtype=torch.float32)]
    with Sizes() as sizes:
        loss(views).backward()
    return sizes.largest


LOSSES = {
    "nt_xent": lambda v: nt_xent(v, temperature=0.5),
    "nt_xent low temperature": lambda v: nt_xent(v, temperature=0.01),
    "sup_con out": lambda v: sup_con(v, torch.arange(len(v[0])) % 10, temperature=0.5),
    "sup_con in": lambda v: sup_con(v, torch.arange(len(v[0])) % 10, temperature=0.5, form="in"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_log_partition_no_tensor_ever_has_rows_times_rows(name, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", 64)
    small, large = (largest_tensor(LOSSES[name], images) for images in (256, 1024))
    assert small == 64 * 64
    assert large == 2048 * 4  # the rows themselves, 500 times less than rows x rows


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host needs: on a GPU it would wait for each."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += any(func.name().split("::")[1].startswith(name) for name in self.NAMES)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", LOSSES)
def test_log_partition_no_loss_ever_makes_the_host_wait(name):
    views = [view.requires_grad_() for view in random_views(2, 12, 4, dtype=torch.float32)]
    with Waits() as waits:
        LOSSES[name](views).backward()
    assert waits.count == 0
    with Waits() as waits:
        bool(views[0][0, 0] > 0)
    assert waits.count == 1


@pytest.mark.parametrize("form", ["out", "in"])
def test_log_partition_weights_cost_no_more_than_the_weights(form, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", 64)
    weights = torch.ones(256, 256)
    largest = largest_tensor(lambda v: sup_con(v, weights=weights, temperature=0.5, form=form), 256)
    assert largest <= 256 * 256
