"""The specification of rendering: every operation as batched torch arithmetic, on any device.

Crop + antialiased resize + flip is one pair of weight matrices per view, blur another pair;
color is pointwise, except for the mean in contrast. Formulas are those of
torchvision.transforms.v2.functional on float images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from coview.core.images import ImageStore, ImageWindow
from coview.views.multi_pass.auto_augment import apply_augmentations
from coview.views.multi_pass.tensor_operations import (
    add_noise,
    apply_last_operations,
    apply_where,
    cut_out,
    normalize,
    rotate90,
    sobel,
    to_grayscale,
)
from coview.views.operations import Blur, Interpolation
from coview.views.parameters import CONTRAST, HUE, SATURATION, ViewParams, check_rows
from coview.views.plan import OrderedViewSpec, ViewSpec

CHUNK_PIXELS = 1 << 23


def render_reference(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    params: ViewParams,
    spec: ViewSpec,
    *,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Row k of ``params`` rendered from image ``rows[k]``: float32 [B, 3, S, S] on ``device``.

    Values in [0, 1] before mean and std. The crops are gathered on the host and moved to
    ``device`` (None: the CPU). Raises InvalidValue for other rows or those of another kind of view.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.views.sample import sample_params
    >>> store, spec = store_from_arrays(np.zeros((1, 8, 8, 3), np.uint8)), ViewSpec(size=2)
    >>> sizes = store.heights, store.widths
    >>> params = sample_params(spec, store.ids, *sizes, seed=0, epoch=0, view=0)
    >>> render_reference(store, np.array([0]), params, spec).shape
    torch.Size([1, 3, 2, 2])
    """
    return render_reference_window(store.window(rows), params, spec, device=device)


def render_reference_window(
    window: ImageWindow, params: ViewParams, spec: ViewSpec, *,
    device: torch.device | str | None = None,
) -> torch.Tensor:  # fmt: skip
    """As :func:`render_reference`, of images that are in a window already."""
    check_rows(params, len(window), multi_pass=spec.multi_pass)
    device = torch.device(device or "cpu")
    parts = [
        _render_chunk(window.part(slice(a, b)), params[a:b], spec, device)
        for a, b in pairwise(_chunk_bounds(params))
    ]
    return torch.cat(parts) if parts else torch.empty(0, 3, spec.size, spec.size, device=device)


def _render_chunk(
    window: ImageWindow, params: ViewParams, spec: ViewSpec, device: torch.device
) -> torch.Tensor:
    views = resize_crops(gather_crops(window, params, device), params, spec)
    if isinstance(spec, OrderedViewSpec):
        return apply_in_order(views, params, spec).contiguous()
    if spec.augment is not None:
        views = apply_augmentations(views, params).to(torch.float32) / 255
    views = apply_jitter(views, params)
    views = apply_grayscale(views, params)
    if spec.blur is not None:
        views = apply_blur(views, params["sigma"], spec.blur)
    views = apply_solarize(views, params, spec.solarize_threshold)
    return apply_last_operations(views, params, spec).contiguous()


def _chunk_bounds(params: ViewParams) -> list[int]:
    """Bounds of chunks whose padded crops stay within CHUNK_PIXELS (or have one row)."""
    bounds, height, width = [0], 0, 0
    for row, (h, w) in enumerate(params[["height", "width"]].tolist()):
        height, width = max(height, h), max(width, w)
        if row > bounds[-1] and height * width * (row + 1 - bounds[-1]) > CHUNK_PIXELS:
            bounds.append(row)
            height, width = h, w
    return [*bounds, len(params)] if len(params) else bounds


def _column(values: npt.NDArray[np.generic], like: torch.Tensor) -> torch.Tensor:
    """One number per view as [B, 1, 1, 1], on the device of the images ``like``."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)[:, None, None, None]


def gather_crops(window: ImageWindow, params: ViewParams, device: torch.device) -> torch.Tensor:
    """The crops, padded to a common size: float32 [B, 3, H, W] in [0, 1]; padding is arbitrary."""

    def positions(start: str, length: str) -> npt.NDArray[np.int64]:
        """[B, longest]: source positions along one axis; the last is repeated as padding."""
        steps = np.arange(params[length].max())
        offsets = np.minimum(steps, params[length][:, None] - 1)
        sources: npt.NDArray[np.int64] = params[start][:, None] + offsets
        return sources

    y, x = positions("top", "height"), positions("left", "width")
    corners = window.starts[:, None] + y * window.widths[:, None].astype(np.int64)
    crops = torch.from_numpy(window.pixels[corners[:, :, None] + x[:, None, :]])
    return crops.to(device)[..., :3].permute(0, 3, 1, 2).to(torch.float32) / 255


def resize_crops(crops: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    """Antialiased resize and flip of padded crops: [B, 3, H, W] -> [B, 3, S, S] in [0, 1]."""
    cubic = spec.interpolation == "bicubic"
    down = axis_weights(params["height"], crops.shape[2], spec.size, cubic).to(crops.device)
    across = axis_weights(params["width"], crops.shape[3], spec.size, cubic).to(crops.device)
    flip = torch.from_numpy(params["flip"] == 1).to(crops.device)[:, None, None]
    across = torch.where(flip, across.flip(1), across)
    views = down[:, None] @ crops @ across.transpose(1, 2)[:, None]
    return views.clamp(0, 1)


def axis_weights(sizes: npt.NDArray[np.int32], padded: int, out: int, cubic: bool) -> torch.Tensor:
    """Weights of ``out`` positions over the first ``sizes[b]`` of ``padded``: [B, out, padded].

    The antialiased filters of torch.nn.functional.interpolate: a triangle, or Keys' cubic with
    a = -0.5, stretched by the scale where the image shrinks.
    """
    size = torch.from_numpy(sizes.astype(np.float64))[:, None, None]
    scale = size / out
    center = scale * (torch.arange(out, dtype=torch.float64)[:, None] + 0.5)
    position = torch.arange(padded, dtype=torch.float64) + 0.5
    x = ((position - center) / scale.clamp(min=1)).abs()
    if cubic:
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    else:
        weights = (1 - x).clamp(min=0)
    weights = weights * (position < size)
    return (weights / weights.sum(dim=2, keepdim=True)).to(torch.float32)


def apply_in_order(views: torch.Tensor, params: ViewParams, spec: OrderedViewSpec) -> torch.Tensor:
    """The operations of ``spec`` in its order, mean and std on [B, 3, S, S] in [0, 1]."""
    for name in spec.order:
        views = IN_ORDER[name](views, params, spec)
    return normalize(views, spec)


def _cropped_again(views: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    crop = spec.second_crop
    return views if crop is None else crop_again(views, params, crop.interpolation)


def _augmented(views: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    return apply_augmentations(views, params).to(torch.float32) / 255


def _blurred(views: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    return views if spec.blur is None else apply_blur(views, params["sigma"], spec.blur)


def _cut(views: torch.Tensor, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    return views if spec.cutout is None else cut_out(views, params, spec.cutout.fill)


IN_ORDER: Mapping[str, Callable[[torch.Tensor, ViewParams, ViewSpec], torch.Tensor]] = {
    "second_crop": _cropped_again,
    "augment": _augmented,
    "jitter": lambda views, params, spec: apply_jitter(views, params),
    "grayscale": lambda views, params, spec: apply_grayscale(views, params),
    "blur": _blurred,
    "solarize": lambda views, params, spec: apply_solarize(views, params, spec.solarize_threshold),
    "rotate90": lambda views, params, spec: rotate90(views, params),
    "sobel": lambda views, params, spec: apply_where(params["sobel"] == 1, views, sobel),
    "noise": lambda views, params, spec: add_noise(views, params),
    "cutout": _cut,
}
"""What each operation of an OrderedViewSpec does to views [B, 3, S, S] in [0, 1]."""


def crop_again(
    views: torch.Tensor, params: ViewParams, interpolation: Interpolation
) -> torch.Tensor:
    """The box ``inner`` of each view, resized with antialiasing to the size of the view."""
    size, cubic = views.shape[2], interpolation == "bicubic"

    def weights(start: int, length: int) -> torch.Tensor:
        """[B, S, S]: those of a crop at the edge, moved to its place; the others are zero."""
        first = torch.from_numpy(params["inner"][:, start].astype(np.int64))[:, None, None]
        at_edge = axis_weights(params["inner"][:, length], size, size, cubic)
        place = (torch.arange(size) - first).remainder(size).expand(-1, size, -1)
        return torch.gather(at_edge, 2, place).to(views.device)[:, None]

    return (weights(0, 2) @ views @ weights(1, 3).transpose(2, 3)).clamp(0, 1)


def apply_grayscale(views: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """The views that are drawn gray, in three equal channels."""
    return torch.where(_column(params["grayscale"] == 1, views), to_grayscale(views), views)


def apply_solarize(views: torch.Tensor, params: ViewParams, threshold: float) -> torch.Tensor:
    """The views that are drawn so with values from ``threshold`` up inverted."""
    solarized = torch.where(views >= threshold, 1 - views, views)
    return torch.where(_column(params["solarize"] == 1, views), solarized, views)


def apply_jitter(images: torch.Tensor, params: ViewParams) -> torch.Tensor:
    """The color jitter of every view in its own order.

    Brightness, contrast and saturation are one affine form, p x + q gray(x) + m mean(gray(x)).
    """
    for step in range(4):
        operation = params["order"][:, step]
        factor = np.take_along_axis(params["factor"], np.maximum(operation, 0)[:, None], 1)[:, 0]
        plain = (operation < 0) | (operation == HUE)
        p = np.where(plain, np.float32(1), factor)
        q = np.where(operation == SATURATION, 1 - factor, np.float32(0))
        m = np.where(operation == CONTRAST, 1 - factor, np.float32(0))
        gray = to_grayscale(images)
        mean = gray.mean(dim=(2, 3), keepdim=True)
        mixed = _column(p, images) * images + _column(q, images) * gray + _column(m, images) * mean
        images = mixed.clamp(0, 1)
        rows = torch.from_numpy(np.flatnonzero(operation == HUE)).to(images.device)
        if len(rows):
            shift = torch.from_numpy(factor).to(images.device)[rows][:, None, None]
            images = images.index_copy(0, rows, shift_hue(images[rows], shift))
    return images


def shift_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Images [B, 3, H, W] with the hue of HSV shifted by ``turns`` [B, 1, 1] (1 = full circle)."""
    red, green, blue = images.unbind(dim=1)
    value, least = images.amax(dim=1), images.amin(dim=1)
    chroma = value - least
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    in_red, in_green = (green - blue) / safe, 2 + (blue - red) / safe
    sector = torch.where(
        value == red, in_red, torch.where(value == green, in_green, 4 + (red - green) / safe)
    )
    sector = torch.remainder(sector + 6 * turns, 6)
    shares = ((sector - 3).abs() - 1, 2 - (sector - 2).abs(), 2 - (sector - 4).abs())
    return torch.stack([least + chroma * share.clamp(0, 1) for share in shares], dim=1)


def apply_blur(images: torch.Tensor, sigmas: npt.NDArray[np.float32], spec: Blur) -> torch.Tensor:
    """Gaussian blur of the views whose sigma is above 0, as a banded matrix on either side."""
    blurred = np.flatnonzero(sigmas > 0)
    if len(blurred) == 0:
        return images
    size = images.shape[2]
    matrix = blur_matrix(sigmas[blurred], spec.radius(size), size).to(images.device)[:, None]
    rows = torch.from_numpy(blurred).to(images.device)
    return images.index_copy(0, rows, matrix @ images[rows] @ matrix.transpose(2, 3))


def blur_matrix(sigmas: npt.NDArray[np.float32], radius: int, size: int) -> torch.Tensor:
    """One axis of the blur with reflected borders: [B, size, size]; rows sum to 1."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / torch.from_numpy(sigmas).double()[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    source = (torch.arange(size)[:, None] + offsets.long()).abs()
    source = torch.where(source > size - 1, 2 * (size - 1) - source, source)
    matrix = torch.zeros(len(sigmas), size, size, dtype=torch.float64)
    index = source.expand(len(sigmas), -1, -1)
    matrix.scatter_add_(2, index, weights[:, None, :].expand(-1, size, -1))
    return matrix.to(torch.float32)
