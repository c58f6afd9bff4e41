"""Views of a batch: draw, then render on the CPU's kernel or on a device.

The fused kernel has crop, resize, flip, jitter, grey, blur, solarise and normalisation. A view with
anything else is rendered in stages: the kernel does what it has and torch the rest, by the very
functions of the specification. ``render`` alone chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore
from coview.views.auto_augment import augmented
from coview.views.draw import draw
from coview.views.finishing import finish
from coview.views.plan import ViewPlan, ViewSpec
from coview.views.reference import render_reference
from coview.views.table import STAGED_ROW, Table, check_rows, fused_part

CHUNKS_PER_THREAD = 4


def render(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    table: Table,
    spec: ViewSpec,
    *,
    threads: int = 1,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Row k of ``table`` rendered from image ``rows[k]``, by the fused CPU kernel or in stages.

    Returns float32 [B, 3, S, S], contiguous, in [0, 1] before mean and std; written into ``out``
    where given. A view does not depend on ``threads`` nor on its neighbours. Raises InvalidValue.
    """
    shape = (len(rows), 3, spec.size, spec.size)
    check_rows(table, len(rows), staged=spec.staged)
    _check_crops(store, rows, table)
    if threads < 1:
        raise InvalidValue(f"threads is {threads}; give 1 or more.")
    out = torch.empty(shape) if out is None else _checked(out, shape)
    if spec.staged:
        return out.copy_(_in_stages(store, rows, table, spec, threads))
    if table.dtype == STAGED_ROW:
        table = fused_part(table)  # another kind of row would compile the kernel anew
    flat = out.numpy().reshape(len(rows), 3, spec.size**2)
    starts = store.starts[rows]
    widths = store.widths[rows].astype(np.int64)
    pixels = _read_only(store.pixels)
    constants = _constants(spec)

    def work(span: tuple[int, int]) -> None:
        part = slice(*span)
        _kernel()(pixels, starts[part], widths[part], table[part], flat[part], *constants)

    if threads == 1 or len(rows) < 2:
        work((0, len(rows)))
    else:
        count = min(len(rows), threads * CHUNKS_PER_THREAD)
        bounds = [len(rows) * k // count for k in range(count + 1)]
        list(_pool(threads).map(work, pairwise(bounds)))
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
    ``store.pixels``). The same seed, epoch, slot and image id give the same view.
    """
    rows = np.asarray(rows, dtype=np.int64)
    ids, heights, widths = store.ids[rows], store.heights[rows], store.widths[rows]
    on_cpu = device is None or torch.device(device).type == "cpu"
    views = []
    for slot, spec in enumerate(plan.views):
        table = draw(spec, ids, heights, widths, seed=seed, epoch=epoch, slot=slot)
        if on_cpu:
            target = None if out is None else out[slot]
            views.append(render(store, rows, table, spec, threads=threads, out=target))
        else:
            views.append(render_reference(store, rows, table, spec, device=device, pixels=pixels))
    return tuple(views)


def _in_stages(
    store: ImageStore,
    rows: npt.NDArray[np.int64],
    table: Table,
    spec: ViewSpec,
    threads: int,
) -> torch.Tensor:
    """A view with operations that the kernel lacks: the kernel around or before torch's part."""
    known = replace(
        spec, augment=None, turn=None, sobel=0.0, noise=None, cutout=None, mean=None, std=None
    )
    numbers = fused_part(table)
    if spec.augment is not None:
        crops = render(store, rows, _crop_only(numbers), known, threads=threads)
        store = _store_of(augmented(crops, table), store.ids[rows])
        rows, numbers = np.arange(len(rows)), _without_crop(numbers, spec.size)
    return finish(render(store, rows, numbers, known, threads=threads), table, spec)


def _crop_only(numbers: Table) -> Table:
    """The rows with nothing after the flip."""
    plain = numbers.copy()
    plain["order"], plain["grey"], plain["sigma"], plain["solarise"] = -1, 0, 0, 0
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


def _checked(out: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
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
    return spec.size, cubic, radius, np.float32(spec.threshold), scale, shift


@lru_cache(maxsize=1)
def _kernel():  # type: ignore[no-untyped-def]
    from coview.views.fused.views import render

    return render


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads rather than numba's own: no second OpenMP runtime beside torch's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="views")
