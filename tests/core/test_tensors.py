import pytest
import torch
from torch import nn

from coview.core.files import digest
from coview.core.tensors import tensor_hash, unit_rows, weights_fingerprint


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_rows_have_the_bits_of_torchs_normalize_and_a_zero_row_a_finite_gradient(dtype):
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(2, 9, 33, generator=generator, dtype=dtype)
    results = []
    for function in (unit_rows, nn.functional.normalize):
        x = rows.clone().requires_grad_()
        y = function(x)
        (y * weights).sum().backward()
        results.append((y.detach(), x.grad))
    assert all(map(torch.equal, *results))
    zero = torch.zeros(1, 33, dtype=dtype, requires_grad=True)
    (unit_rows(zero) * weights[:1]).sum().backward()
    assert torch.equal(zero.grad, weights[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensor_hash_is_that_of_its_bytes(dtype):
    tensor = torch.arange(12).view(3, 4).to(dtype).T
    raw = b"".join(
        bytes(item.contiguous().view(1).view(torch.uint8).tolist()) for item in tensor.flatten()
    )
    assert tensor_hash(tensor) == digest(raw)
    assert tensor_hash(torch.tensor(1.5)) == tensor_hash(torch.tensor([1.5]))


def test_weights_fingerprint_is_equal_for_equal_weights_only():
    assert weights_fingerprint(network()) == weights_fingerprint(network())
    assert weights_fingerprint(network()) != weights_fingerprint(network(seed=1))
    assert weights_fingerprint(network()) != weights_fingerprint(network().double())


def test_weights_fingerprint_sees_a_buffer_change_and_a_new_name():
    changed = network()
    changed[1].running_mean[0] += 1e-3
    assert weights_fingerprint(changed) != weights_fingerprint(network())
    assert weights_fingerprint(nn.ModuleList([network()])) != weights_fingerprint(network())
