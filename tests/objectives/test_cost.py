"""What the objectives hold in memory, and that they never make the host wait."""

import pytest
import torch
from every_objective import AT_TEMPERATURE, at
from slow_losses import random_views
from torch.utils._python_dispatch import TorchDispatchMode

from coview.objectives import sup_con

TILE, WIDTH = 32, 4
FEW, MANY = 64, 256


class Sizes(TorchDispatchMode):
    """Records the largest tensor that any operation returns, in floats."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor):
                self.largest = max(self.largest, item.untyped_storage().nbytes() // 4)
        return result


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host needs: on a GPU it would wait for each."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += any(func.name().split("::")[1].startswith(name) for name in self.NAMES)
        return func(*args, **(kwargs or {}))


def two_views(images):
    return [view.requires_grad_() for view in random_views(2, images, WIDTH, dtype=torch.float32)]


def largest_tensor(loss, images):
    views = two_views(images)
    with Sizes() as sizes:
        loss(views).backward()
    return sizes.largest


def kept_for_backward(loss, images):
    """The floats that autograd holds between forward and backward, each storage once."""
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes() // 4, storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss(two_views(images))
    return sum(size for size, _ in kept.values())


LOSSES = at(0.5) | {f"{name}, low temperature": at(0.01)[name] for name in AT_TEMPERATURE}


# N13, N24: quadratic and cubic memory.
@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_ever_has_rows_times_rows(name, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", TILE)
    small, large = (largest_tensor(LOSSES[name], images) for images in (FEW, MANY))
    assert small <= 2 * TILE * TILE  # whole numbers of 8 bytes count twice
    assert large <= 2 * max(TILE * TILE, 2 * MANY * WIDTH)  # 64 times less than rows x rows


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_kept_for_the_backward_pass_grows_with_the_rows(name, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", TILE)
    small, large = (kept_for_backward(LOSSES[name], images) for images in (FEW, MANY))
    assert large < 4.5 * small
    assert large < 12 * 2 * MANY * WIDTH


@pytest.mark.parametrize("form", ["out", "in"])
def test_weights_cost_no_more_than_the_weights(form, monkeypatch):
    monkeypatch.setattr("coview.objectives.log_partition.CPU_TILE", TILE)
    weights = torch.ones(MANY, MANY)
    largest = largest_tensor(
        lambda v: sup_con(v, weights=weights, temperature=0.5, form=form), MANY
    )
    assert largest <= MANY * MANY


# N16: masks built on the CPU, boolean indexing.
@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_ever_makes_the_host_wait(name):
    views = two_views(12)
    with Waits() as waits:
        LOSSES[name](views).backward()
    assert waits.count == 0


def test_a_wait_would_be_counted():
    with Waits() as waits:
        bool(torch.ones(1)[0] > 0)
    assert waits.count == 1
