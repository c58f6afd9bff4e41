"""Views of a batch: draw, then render on the CPU's kernel or on a device.

The fused kernel has crop, resize, flip, jitter, gray, blur, solarize and normalization. A view with
anything else is rendered in stages: the kernel does what it has and torch the rest, by the very
functions of the specification. ``render`` alone chooses.
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
from coview.core.images import ImageStore
from coview.views.multi_pass.auto_augment import augmented
from coview.views.multi_pass.finishing import finish
from coview.views.parameters import FULL_ROW, Table, check_rows, fused_part
from coview.views.plan import ViewPlan, ViewSpec
from coview.views.reference import render_reference
from coview.views.sample import sample_params


def render(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    table: Table,
    spec: ViewSpec,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Row k of ``table`` rendered from image ``rows[k]``, by the fused CPU kernel or in stages.

    Returns float32 [B, 3, S, S], contiguous, in [0, 1] before mean and std; written into ``out``
    where given. A view does not depend on its neighbors. Raises InvalidValue.
    """
    check_rows(table, len(rows), multi_pass=spec.multi_pass)
    _check_crops(store, rows, table)
    out = _target(out, len(rows), spec)
    if spec.multi_pass:
        return out.copy_(_in_stages(store, rows, table, spec))
    if table.dtype == FULL_ROW:
        table = fused_part(table)  # another kind of row would compile the kernel anew
    flat = out.numpy().reshape(len(rows), 3, spec.size**2)
    starts = store.starts[rows]
    widths = store.widths[rows].astype(np.int64)
    _kernel()(_read_only(store.pixels), starts, widths, table, flat, *_constants(spec))
    return out


def views_of(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    plan: ViewPlan,
    *,
    seed: int,
    epoch: int,
    threads: int = 1,
    device: torch.device | str | None = None,
    pixels: torch.Tensor | None = None,
    out: Sequence[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Every view of the images ``rows`` in ``epoch``: one float32 [B, 3, S, S] per slot.

    On the CPU (device None or "cpu") the fused kernel renders, into ``out`` where given; on any
    other device the batched torch form does, from ``pixels`` there where given (a copy of
    ``store.pixels``). The same seed, epoch, slot and image id give the same view, whatever the
    number of ``threads`` that share a batch on the CPU. Raises InvalidValue.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if threads < 1:
        raise InvalidValue(f"threads is {threads}; give 1 or more.")

    def drawn(part: npt.NDArray[np.int64], slot: int) -> Table:
        ids, heights, widths = store.ids[part], store.heights[part], store.widths[part]
        return sample_params(
            plan.views[slot], ids, heights, widths, seed=seed, epoch=epoch, slot=slot
        )

    slots = range(len(plan.views))
    if device is not None and torch.device(device).type != "cpu":
        return tuple(
            render_reference(
                store, rows, drawn(rows, slot), plan.views[slot], device=device, pixels=pixels
            )
            for slot in slots
        )
    given = [None] * len(slots) if out is None else out
    targets = tuple(_target(given[slot], len(rows), plan.views[slot]) for slot in slots)

    def work(part: slice) -> None:
        for slot in slots:
            table, target = drawn(rows[part], slot), targets[slot][part]
            render(store, rows[part], table, plan.views[slot], out=target)

    _shared(work, len(rows), threads)
    return targets


def _shared(work: Callable[[slice], None], count: int, threads: int) -> None:
    """``work`` on all of ``count`` rows, in consecutive parts: the first here, the rest beside."""
    threads = min(threads, max(1, count))
    bounds = [count * k // threads for k in range(threads + 1)]
    first, *rest = (slice(low, high) for low, high in pairwise(bounds))
    waiting = [_pool(threads - 1).submit(work, part) for part in rest]
    work(first)
    for future in waiting:
        future.result()


def _in_stages(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    table: Table,
    spec: ViewSpec,
) -> torch.Tensor:
    """A view with operations that the kernel lacks: the kernel around or before torch's part."""
    known = replace(
        spec, augment=None, rotate90=None, sobel=0.0, noise=None, cutout=None, mean=None, std=None
    )
    numbers = fused_part(table)
    if spec.augment is not None:
        crops = render(store, rows, _crop_only(numbers), known)
        store = _store_of(augmented(crops, table), store.ids[rows])
        rows, numbers = np.arange(len(rows)), _without_crop(numbers, spec.size)
    return finish(render(store, rows, numbers, known), table, spec)


def _crop_only(numbers: Table) -> Table:
    """The rows with nothing after the flip."""
    plain = numbers.copy()
    plain["order"], plain["gray"], plain["sigma"], plain["solarize"] = -1, 0, 0, 0
    return plain


def _without_crop(numbers: Table, size: int) -> Table:
    """The rows for images that are views already: whole, and not turned over again."""
    rest = numbers.copy()
    rest["top"], rest["left"], rest["height"], rest["width"], rest["flip"] = 0, 0, size, size, 0
    return rest


def _store_of(views: torch.Tensor, ids: npt.NDArray[np.int64]) -> ImageStore:
    """uint8 views [B, 3, S, S] as a store, for a second pass through the kernel."""
    count, side = len(views), views.shape[2]
    pixels = np.zeros((count * side * side, 4), np.uint8)
    pixels[:, :3] = views.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    sides = np.full(count, side, np.int32)
    starts = np.arange(count, dtype=np.int64) * side * side
    names = [str(k) for k in range(count)]
    return ImageStore(
        pixels=pixels, starts=starts, heights=sides, widths=sides, ids=ids, names=names
    )


def _check_crops(store: ImageStore, rows: npt.NDArray[np.int64], table: Table) -> None:
    """The kernel reads without looking, so the crops must lie within their images."""
    inside = (table["top"] >= 0) & (table["left"] >= 0)
    inside &= (table["height"] > 0) & (table["top"] + table["height"] <= store.heights[rows])
    inside &= (table["width"] > 0) & (table["left"] + table["width"] <= store.widths[rows])
    if not inside.all():
        bad = int(np.flatnonzero(~inside)[0])
        raise InvalidValue(
            f"The crop of drawn row {bad} is not inside image {store.names[int(rows[bad])]}; "
            "draw the table from the heights and widths of the same rows."
        )


def _target(out: torch.Tensor | None, count: int, spec: ViewSpec) -> torch.Tensor:
    """``out`` if it fits so many views, a new tensor where it is None."""
    shape = (count, 3, spec.size, spec.size)
    if out is None:
        return torch.empty(shape)
    fits = out.shape == shape and out.dtype == torch.float32 and out.device.type == "cpu"
    if not (fits and out.is_contiguous()):
        raise InvalidValue(
            f"out is {out.dtype} {tuple(out.shape)} on {out.device}; "
            f"give a contiguous float32 tensor {shape} on the CPU."
        )
    return out


def _read_only(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The flat bytes, always read-only: one type for the kernel, mapped from a file or not."""
    flat = pixels.view(np.ndarray).reshape(-1)
    flat.flags.writeable = False
    return flat


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
    from coview.views.fused.views import render

    return render


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads rather than numba's own: no second OpenMP runtime beside torch's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="views")
