"""Hashes of tensors and of networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coview.core.files import digest


def tensor_hash(tensor: Tensor) -> str:
    """32 hexadecimal digits of the bytes of a tensor on any device; shape and dtype do not count.

    >>> tensor_hash(torch.zeros(2)) == tensor_hash(torch.zeros(2, 1))
    True
    """
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return digest(content.numpy().data)


def weights_fingerprint(module: nn.Module) -> str:
    """32 hexadecimal digits of the names, shapes, dtypes and values of all parameters and buffers.

    Two networks with equal weights have the same fingerprint on every device.

    >>> layer = nn.Linear(2, 2)
    >>> weights_fingerprint(layer) == weights_fingerprint(nn.Linear(2, 2))
    False
    """
    lines = [
        f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor_hash(tensor)}"
        for name, tensor in sorted(module.state_dict().items())
    ]
    return digest("\n".join(lines).encode())
