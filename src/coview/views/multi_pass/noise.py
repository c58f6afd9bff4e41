"""Standard normal numbers by key: the same bits on every device and in every batch.

Philox4x32-10 of (block, 0, 0, 0) gives four words, each two 16-bit numbers, low half first; number
n takes half n % 8 of block n // 8 and looks up the normal quantile in the middle of its 65,536th.
No logarithm or cosine is computed, whose last bit differs between machines.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_STEPS = 1 << 16


def normals(keys: npt.NDArray[np.uint32], count: int, device: torch.device) -> torch.Tensor:
    """``count`` numbers of N(0, 1) for every key: uint32 [B, 2] -> float32 [B, count]."""
    words = philox(keys, (count + 7) // 8, device)
    halves = torch.stack([words & (_STEPS - 1), words >> 16], dim=-1)
    return _quantiles(str(device))[halves.flatten(1)[:, :count]]


def philox(keys: npt.NDArray[np.uint32], blocks: int, device: torch.device) -> torch.Tensor:
    """Words of the first ``blocks`` counters under every key: int64 [B, blocks, 4] of 32 bits.

    Products of 32-bit words wrap in int64, which leaves both of their halves right.
    """
    k0, k1 = torch.from_numpy(keys.astype(np.int64)).to(device).T[:, :, None]
    c0 = torch.arange(blocks, device=device).expand(len(keys), blocks)
    c1 = c2 = c3 = torch.zeros_like(c0)
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, ((p0 >> 32) & _LOW) ^ c3 ^ k1
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return torch.stack([c0, c1, c2, c3], dim=-1)


@lru_cache(maxsize=4)
def _quantiles(device: str) -> torch.Tensor:
    """Normal quantiles of (i + 1/2) / 65,536, odd about the middle: float32 [65536]."""
    shares = (torch.arange(_STEPS, dtype=torch.float64) + 0.5) / _STEPS
    quantiles: torch.Tensor = torch.special.ndtri(shares)
    return quantiles.to(device, torch.float32)
