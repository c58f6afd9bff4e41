"""Views of a batch: sample the parameters, then render on the CPU's kernel or on a device.

The fused kernel has crop, resize, flip, jitter, grayscale, blur, solarize and normalization. A view
with any other operation takes several passes: the kernel does its part, and torch the rest by the
same functions as the specification (reference.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore, ImageWindow
from coview.core.memory import fitting
from coview.views.multi_pass.auto_augment import apply_augmentations
from coview.views.multi_pass.tensor_operations import apply_last_operations
from coview.views.parameters import FULL_ROW, ViewParams, check_rows, select_fused_fields
from coview.views.plan import OrderedViewSpec, ViewPlan, ViewSpec
from coview.views.reference import apply_in_order, render_reference_window
from coview.views.sample import sample_params

ON_THE_CPU = "unset COVIEW_RENDER_ON, and the CPU renders them."


def render(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    params: ViewParams,
    spec: ViewSpec,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Row k of ``params`` rendered from image ``rows[k]`` on the CPU.

    Returns float32 [B, 3, S, S], contiguous, in [0, 1] before mean and std; ``out``, if given, is
    filled and returned. A view does not depend on its batch. Raises InvalidValue for rows of
    another view, for crops outside their images, and for an ``out`` of another kind.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.full((1, 8, 8, 3), 255, np.uint8))
    >>> spec, rows = ViewSpec(size=4), np.array([0])
    >>> sizes = store.heights, store.widths
    >>> params = sample_params(spec, store.ids, *sizes, seed=0, epoch=0, view=0)
    >>> render(store, rows, params, spec)[0, 0, 0]
    tensor([1., 1., 1., 1.])
    """
    check_rows(params, len(rows), multi_pass=spec.multi_pass)
    out = _check_or_make_out(out, len(rows), spec)
    if params.dtype == FULL_ROW and not spec.multi_pass:
        params = select_fused_fields(params)  # FULL_ROW would compile the kernel again
    return _render_window(store.window(rows), params, spec, out)


def views_of(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    plan: ViewPlan,
    *,
    seed: int,
    epoch: int,
    threads: int = 1,
    device: torch.device | str | None = None,
    out: Sequence[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Every view of the images ``rows`` in ``epoch``: one float32 [B, 3, S, S] per view.

    On the CPU (``device`` None or "cpu") the fused kernel renders, into ``out`` if given; on any
    other device batched torch arithmetic does. The same seed, epoch, view and image id give the
    same view for any number of ``threads``, which share a batch on the CPU. Raises InvalidValue,
    and DoesNotFit for another device.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((5, 8, 8, 3), np.uint8))
    >>> plan = ViewPlan(views=(ViewSpec(size=8), ViewSpec(size=4)))
    >>> [tuple(view.shape) for view in views_of(store, np.array([3, 1]), plan, seed=0, epoch=0)]
    [(2, 3, 8, 8), (2, 3, 4, 4)]
    """
    rows = np.asarray(rows, dtype=np.int64)
    if threads < 1:
        raise InvalidValue(f"`threads` is {threads}; expected at least 1.")
    specs = plan.views

    def sample(part: slice, window: ImageWindow, view: int) -> ViewParams:
        ids = store.ids[rows[part]]
        sizes = window.heights, window.widths
        return sample_params(specs[view], ids, *sizes, seed=seed, epoch=epoch, view=view)

    if device is not None and torch.device(device).type != "cpu":
        whole = slice(None)
        window = store.window(rows)
        what = f"The views of {len(rows)} images at a time do"
        with fitting(what, torch.device(device), ON_THE_CPU):
            return tuple(
                render_reference_window(window, sample(whole, window, view), spec, device=device)
                for view, spec in enumerate(specs)
            )
    outputs = tuple(
        _check_or_make_out(None if out is None else out[view], len(rows), spec)
        for view, spec in enumerate(specs)
    )

    def render_part(part: slice) -> None:
        window = store.window(rows[part])
        for view, spec in enumerate(specs):
            _render_window(window, sample(part, window, view), spec, outputs[view][part])

    _run_in_threads(render_part, len(rows), threads)
    return outputs


def _run_in_threads(task: Callable[[slice], None], count: int, threads: int) -> None:
    """Run ``task`` on consecutive parts of ``count`` rows: the first here, others in threads."""
    threads = min(threads, max(1, count))
    bounds = [count * k // threads for k in range(threads + 1)]
    first, *rest = (slice(low, high) for low, high in pairwise(bounds))
    futures = [_thread_pool(threads - 1).submit(task, part) for part in rest]
    task(first)
    for future in futures:
        future.result()


def _render_window(
    window: ImageWindow, params: ViewParams, spec: ViewSpec, out: torch.Tensor
) -> torch.Tensor:
    """Row k of ``params`` rendered from image k of ``window`` into ``out``, which is returned."""
    if spec.multi_pass:
        return out.copy_(_render_multi_pass(window, params, spec))
    _check_crops(window, params)
    planes = out.numpy().reshape(len(window), 3, spec.size**2)
    pitches = window.widths.astype(np.int64)
    pixels = window.pixels.reshape(-1)
    _kernel()(pixels, window.starts, pitches, params, planes, *_constants(spec))
    return out


def _render_multi_pass(window: ImageWindow, params: ViewParams, spec: ViewSpec) -> torch.Tensor:
    """A view with operations that the kernel lacks: torch's passes around the kernel's."""
    views = torch.empty(len(window), 3, spec.size, spec.size)
    fused = select_fused_fields(params)
    if isinstance(spec, OrderedViewSpec):
        cropped = ViewSpec(size=spec.size, crop=spec.crop)
        _render_window(window, _crop_and_flip_only(fused), cropped, views)
        return apply_in_order(views, params, spec)
    fused_spec = replace(
        spec, augment=None, rotate90=None, sobel=0.0, noise=None, cutout=None, mean=None, std=None
    )
    if spec.augment is not None:
        _render_window(window, _crop_and_flip_only(fused), fused_spec, views)
        window = _window_of(apply_augmentations(views, params))
        fused = _without_crop_and_flip(fused, spec.size)
    _render_window(window, fused, fused_spec, views)
    return apply_last_operations(views, params, spec)


def _crop_and_flip_only(params: ViewParams) -> ViewParams:
    """The rows without the operations after the flip."""
    rows = params.copy()
    rows["order"], rows["grayscale"], rows["sigma"], rows["solarize"] = -1, 0, 0, 0
    return rows


def _without_crop_and_flip(params: ViewParams, size: int) -> ViewParams:
    """The rows for images that are cropped and flipped views of ``size`` pixels already."""
    rows = params.copy()
    rows["top"], rows["left"], rows["height"], rows["width"], rows["flip"] = 0, 0, size, size, 0
    return rows


def _window_of(views: torch.Tensor) -> ImageWindow:
    """uint8 views [B, 3, S, S] as images, for a second pass through the kernel."""
    count, side = len(views), views.shape[2]
    pixels = np.zeros((count * side * side, 4), np.uint8)
    pixels[:, :3] = views.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    pixels.flags.writeable = False  # numba compiles the kernel for read-only pixels
    sides = np.full(count, side, np.int32)
    starts = np.arange(count, dtype=np.int64) * side * side
    return ImageWindow(pixels=pixels, starts=starts, heights=sides, widths=sides)


def _check_crops(window: ImageWindow, params: ViewParams) -> None:
    """Raise InvalidValue for a crop outside its image: the kernel does not check its bounds."""
    inside = (params["top"] >= 0) & (params["left"] >= 0)
    inside &= (params["height"] > 0) & (params["top"] + params["height"] <= window.heights)
    inside &= (params["width"] > 0) & (params["left"] + params["width"] <= window.widths)
    if not inside.all():
        row = int(np.flatnonzero(~inside)[0])
        raise InvalidValue(
            f"The crop in row {row} of `params` is not inside image {row} of the batch, which has "
            f"{window.heights[row]} x {window.widths[row]} pixels; "
            "sample the parameters with the heights and widths of the same rows."
        )


def _check_or_make_out(out: torch.Tensor | None, count: int, spec: ViewSpec) -> torch.Tensor:
    """``out`` if ``count`` views fit into it, or a new tensor if it is None."""
    shape = (count, 3, spec.size, spec.size)
    if out is None:
        return torch.empty(shape)
    fits = out.shape == shape and out.dtype == torch.float32 and out.device.type == "cpu"
    if not (fits and out.is_contiguous()):
        raise InvalidValue(
            f"`out` is {out.dtype} {tuple(out.shape)} on {out.device}; "
            f"expected a contiguous float32 tensor {shape} on the CPU."
        )
    return out


def _constants(spec: ViewSpec) -> tuple[object, ...]:
    """The kernel's arguments that are the same for every row."""
    scale = shift = np.zeros(0, np.float32)
    if spec.mean is not None and spec.std is not None:
        scale = (1 / np.array(spec.std)).astype(np.float32)
        shift = (-np.array(spec.mean) / np.array(spec.std)).astype(np.float32)
    radius = spec.blur.radius(spec.size) if spec.blur else 0
    cubic = spec.interpolation == "bicubic"
    return spec.size, cubic, radius, np.float32(spec.solarize_threshold), scale, shift


@lru_cache(maxsize=1)
def _kernel():  # type: ignore[no-untyped-def]
    from coview.views.fused.render import render

    return render


@lru_cache(maxsize=8)
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    """Threads rather than numba's own: no second OpenMP runtime beside torch's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="views")
