"""Operations on batches of views as torch arithmetic, on any device.

All of them are elementwise or move pixels, so a view does not depend on its batch.

The noise of a pixel is a keyed normal number, the same bits on every device. Philox4x32-10 of
(block, 0, 0, 0) gives four words, each two 16-bit numbers, low half first. Number n takes half
n % 8 of block n // 8 and looks up the normal quantile in the middle of its 65,536th. Logarithm and
cosine are not used, because their last bit differs between machines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from coview.views.parameters import ViewParams
from coview.views.plan import ViewSpec

LUMA = (0.2989, 0.587, 0.114)

MAX_GRADIENT = math.sqrt(20.0)
"""The largest gradient magnitude that Sobel's kernels find in values of [0, 1]."""

NUMBERS_AT_ONCE = 1 << 22
"""Noise is made in parts of this many numbers, since each passes through 64-bit words."""

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_QUANTILES = 1 << 16


def to_grayscale(images: torch.Tensor) -> torch.Tensor:
    """Luma of [B, 3, H, W] as [B, 1, H, W], weights of ITU-R BT.601."""
    red, green, blue = images.unbind(dim=1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def apply_last_operations(views: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    """Rotate90, Sobel, noise, cutout, mean and std on [B, 3, S, S] in [0, 1]; same shape."""
    if spec.rotate90 is not None:
        views = rotate90(views, params)
    if spec.sobel > 0:
        views = apply_where(params["sobel"] == 1, views, sobel)
    if spec.noise is not None:
        views = add_noise(views, params)
    if spec.cutout is not None:
        views = cut_out(views, params, spec.cutout.fill)
    return normalize(views, spec)


def normalize(views: torch.Tensor, spec: ViewSpec) -> torch.Tensor:
    """The views with ``mean`` and ``std`` of ``spec``, if it has any."""
    if spec.mean is None or spec.std is None:
        return views
    mean, std = (views.new_tensor(triple)[:, None, None] for triple in (spec.mean, spec.std))
    return (views - mean) / std


def apply_where(
    mask: npt.NDArray[np.bool_],
    views: torch.Tensor,
    operation: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The views, with ``operation`` applied where ``mask`` is True. Shapes: mask bool [B]."""
    rows = torch.from_numpy(np.flatnonzero(mask)).to(views.device)
    return views.index_copy(0, rows, operation(views[rows])) if len(rows) else views


def rotate90(views: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """Each view rotated counter-clockwise by its quarter turns."""
    for quarters in (1, 2, 3):
        views = apply_where(
            params["rotate90"] == quarters, views, partial(torch.rot90, k=quarters, dims=(2, 3))
        )
    return views


def sobel(views: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude of the gray image over its largest value, in three equal channels.

    Kernels (1, 2, 1) across (-1, 0, 1), borders repeated; [0, 1] -> [0, 1]. The scale is a choice
    of this project (a sharp vertical edge from black to white becomes 0.89).
    """
    gray = pad(to_grayscale(views), (1, 1, 1, 1), mode="replicate")
    down = gray[:, :, 2:] - gray[:, :, :-2]
    across = gray[:, :, :, 2:] - gray[:, :, :, :-2]
    slope_y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    slope_x = across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
    magnitude = (slope_x * slope_x + slope_y * slope_y).sqrt() / MAX_GRADIENT
    return magnitude.clamp(max=1).expand(-1, 3, -1, -1)


def add_noise(views: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """Every view plus its sigma times its own standard normal numbers, within [0, 1]."""
    noisy = np.flatnonzero(params["noise"] > 0)
    if len(noisy) == 0:
        return views
    shape, views = views.shape[1:], views.clone()
    step = max(1, NUMBERS_AT_ONCE // shape.numel())
    for start in range(0, len(noisy), step):
        part = noisy[start : start + step]
        rows = torch.from_numpy(part).to(views.device)
        sigma = torch.from_numpy(params["noise"][part]).to(views.device)[:, None]
        numbers = sigma * draw_normals(params["noise_key"][part], shape.numel(), views.device)
        views[rows] = (views[rows] + numbers.reshape(-1, *shape)).clamp(0, 1)
    return views


def cut_out(views: torch.Tensor, params: ViewParams, fill: float) -> torch.Tensor:
    """Each view with its rectangle filled."""
    position = torch.arange(views.shape[2], device=views.device)

    def within(start: str, length: str) -> torch.Tensor:
        first = torch.from_numpy(params[start].astype(np.int64)).to(views.device)[:, None]
        extent = torch.from_numpy(params[length].astype(np.int64)).to(views.device)[:, None]
        return (position >= first) & (position < first + extent)

    rows, columns = within("cut_top", "cut_height"), within("cut_left", "cut_width")
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], fill)


def draw_normals(keys: npt.NDArray[np.uint32], count: int, device: torch.device) -> torch.Tensor:
    """``count`` numbers of N(0, 1) for every key: uint32 [B, 2] -> float32 [B, count]."""
    words = philox_words(keys, (count + 7) // 8, device)
    halves = torch.stack([words & (_QUANTILES - 1), words >> 16], dim=-1)
    return _normal_quantiles(str(device))[halves.flatten(1)[:, :count]]


def philox_words(keys: npt.NDArray[np.uint32], blocks: int, device: torch.device) -> torch.Tensor:
    """Words of the first ``blocks`` counters under every key: int64 [B, blocks, 4] of 32 bits.

    Products of 32-bit words wrap in int64; both of their halves stay right.
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
def _normal_quantiles(device: str) -> torch.Tensor:
    """Normal quantiles of (i + 1/2) / 65,536, odd about the middle: float32 [65536]."""
    shares = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    quantiles: torch.Tensor = torch.special.ndtri(shares)
    return quantiles.to(device, torch.float32)
