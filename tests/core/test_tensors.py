import pytest
import torch
from torch import nn

from coview.core.files import digest
from coview.core.tensors import tensor_hash, weights_fingerprint


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


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
