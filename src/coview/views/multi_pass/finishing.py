"""The last operations of a staged view, as torch arithmetic on any device.

All of it is elementwise or moves pixels, so a view does not depend on its batch.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from coview.views.grayscale import gray_image
from coview.views.multi_pass.noise import normals
from coview.views.parameters import Table
from coview.views.plan import ViewSpec

if TYPE_CHECKING:
    from collections.abc import Callable

STEEPEST = math.sqrt(20.0)
"""The largest gradient magnitude that Sobel's kernels find in values of [0, 1]."""

NUMBERS_AT_ONCE = 1 << 22
"""Noise is made in pieces, for its keyed numbers pass through 64-bit words."""


def finish(views: torch.Tensor, table: Table, spec: ViewSpec) -> torch.Tensor:
    """Quarter turns, Sobel, noise, cutout, mean and std: [B, 3, S, S] in [0, 1] -> the same."""
    if spec.rotate90 is not None:
        views = rotate90(views, table)
    if spec.sobel > 0:
        views = _where(table["sobel"] == 1, views, sobel)
    if spec.noise is not None:
        views = add_noise(views, table)
    if spec.cutout is not None:
        views = cut_out(views, table, spec.cutout.fill)
    if spec.mean is not None and spec.std is not None:
        mean, std = (views.new_tensor(triple)[:, None, None] for triple in (spec.mean, spec.std))
        views = (views - mean) / std
    return views


def _where(
    chosen: npt.NDArray[np.bool_],
    views: torch.Tensor,
    operation: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The views with ``operation`` applied to the chosen ones."""
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(views.device)
    return views.index_copy(0, rows, operation(views[rows])) if len(rows) else views


def rotate90(views: torch.Tensor, table: Table) -> torch.Tensor:
    """Each view turned counter-clockwise by its quarters of a circle."""
    for quarters in (1, 2, 3):
        views = _where(
            table["turns"] == quarters, views, partial(torch.rot90, k=quarters, dims=(2, 3))
        )
    return views


def sobel(views: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude of the gray image in three equal channels, over its largest value.

    Kernels (1, 2, 1) across (-1, 0, 1), borders repeated; [0, 1] -> [0, 1]. The scale is a choice
    of this project (a sharp vertical edge from black to white becomes 0.89).
    """
    gray = pad(gray_image(views), (1, 1, 1, 1), mode="replicate")
    down = gray[:, :, 2:] - gray[:, :, :-2]
    across = gray[:, :, :, 2:] - gray[:, :, :, :-2]
    slope_y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    slope_x = across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
    steepness = (slope_x * slope_x + slope_y * slope_y).sqrt() / STEEPEST
    return steepness.clamp(max=1).expand(-1, 3, -1, -1)


def add_noise(views: torch.Tensor, table: Table) -> torch.Tensor:
    """Every view plus its sigma times its own standard normal numbers, within [0, 1]."""
    noisy = np.flatnonzero(table["noise"] > 0)
    if len(noisy) == 0:
        return views
    shape, views = views.shape[1:], views.clone()
    step = max(1, NUMBERS_AT_ONCE // shape.numel())
    for start in range(0, len(noisy), step):
        part = noisy[start : start + step]
        rows = torch.from_numpy(part).to(views.device)
        sigma = torch.from_numpy(table["noise"][part]).to(views.device)[:, None]
        numbers = sigma * normals(table["noise_key"][part], shape.numel(), views.device)
        views[rows] = (views[rows] + numbers.reshape(-1, *shape)).clamp(0, 1)
    return views


def cut_out(views: torch.Tensor, table: Table, fill: float) -> torch.Tensor:
    """Each view with its rectangle filled."""
    place = torch.arange(views.shape[2], device=views.device)

    def within(start: str, length: str) -> torch.Tensor:
        first = torch.from_numpy(table[start].astype(np.int64)).to(views.device)[:, None]
        extent = torch.from_numpy(table[length].astype(np.int64)).to(views.device)[:, None]
        return (place >= first) & (place < first + extent)

    rows, columns = within("cut_top", "cut_height"), within("cut_left", "cut_width")
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], fill)
