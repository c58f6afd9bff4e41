"""Rows of unit length; tensors on their way to a device; hashes of tensors and of networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coview.core.files import digest

ZERO = 1e-12
"""A row that is shorter counts as zero."""


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` in page-locked memory where it lies on the CPU and goes to a CUDA ``device``.

    >>> pinned(torch.ones(1), torch.device("cpu"))
    tensor([1.])
    """
    return page_locked(tensor) if device.type == "cuda" else tensor


def page_locked(tensor: Tensor) -> Tensor:
    """``tensor`` in page-locked memory, which needs CUDA; one that is on a device stays there."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; the host does not wait for the copy to a GPU of CUDA.

    The caller may drop the tensor at once: torch's allocator does not hand out page-locked memory
    again before the copies from it have ended. It must not write into it.

    >>> to_device(torch.ones(1), torch.device("cpu"))
    tensor([1.])
    """
    # The copy to a Mac's GPU may read the memory after the caller has dropped it.
    return pinned(tensor, device).to(device, non_blocking=device.type != "mps")


def unit_rows(rows: Tensor) -> Tensor:
    """Rows [M, D] divided by their length, as torch's ``normalize``.

    A row shorter than 1e-12 is divided by 1, so that its gradient is finite; that of ``normalize``
    is a million million times as large there.

    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    length = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(length < ZERO, 1.0, length)


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
