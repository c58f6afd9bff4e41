"""Part 6: views by the CPU's kernel in threads, with their transfer, or by the device itself."""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np
import torch

from coview.core.images import ImageStore, store_from_arrays
from coview.core.machine import cores
from coview.recipes import recipe
from coview.training import BatchLoader
from coview.views import ViewPlan, views_of
from on_gpu.part import Part


def run(part: Part) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.uint8):
        with part.case(f"transfer of {dtype}", needs=2) as go:
            if go:
                transfer(part, dtype)
    sizes = ((8, 8, 16, 4),) if part.tiny else ((32, 32, 20_000, 512), (224, 300, 3_000, 256))
    for size, side, images, batch in sizes:
        pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
        store = store_from_arrays(pixels)
        name = "simclr-cifar" if size <= 32 else "simclr-photos"
        plan = recipe(name).method.views
        if size < 32:
            plan = ViewPlan(views=tuple(_resized(spec, size) for spec in plan.views))
        label = f"{size} px: rendered on the device"
        with part.case(label, needs=3) as go:
            if go:
                on_device(part, label, store, plan, batch)
        # What the choice hangs on first: all cores but one.
        counts = (1,) if part.tiny else dict.fromkeys((max(1, cores() - 1), 8, 1))
        for workers in counts:
            label = f"{size} px: CPU kernel, {workers} threads, pinned, to the device"
            with part.case(label, needs=3) as go:
                if go:
                    by_threads(part, label, store, plan, batch, workers)


def _resized(spec: object, size: int) -> object:
    from dataclasses import replace

    return replace(spec, size=size)  # type: ignore[type-var]


def by_threads(
    part: Part, name: str, store: ImageStore, plan: ViewPlan, batch: int, workers: int
) -> None:
    loader = BatchLoader(
        store.ids, None,
        lambda rows, ids, epoch: views_of(store, rows, plan, seed=0, epoch=epoch),
        batch_size=batch, seed=0, total_steps=None, workers=workers, pin=part.on_gpu,
    )  # fmt: skip
    count, begun, seconds = 0, 0.0, 0.05 if part.tiny else 1.0
    warm = workers + 2  # the kernel is compiled, the threads are at work
    with closing(iter(loader)) as batches:
        for number, each in enumerate(batches):
            each.to(part.device)
            if number == warm:
                part.wait()
                begun = time.perf_counter()
            elif number > warm:
                count += batch * len(plan.views)
                if time.perf_counter() - begun > seconds:
                    break
    part.wait()
    part.write(name, views_per_second=round(count / (time.perf_counter() - begun)), workers=workers)


def on_device(part: Part, name: str, store: ImageStore, plan: ViewPlan, batch: int) -> None:
    rows = np.arange(batch)
    turns = {"warm": 1, "turns": 1} if part.tiny else {"warm": 1, "turns": 3}
    # On a CPU the kernel renders: then this shows only that the code runs.
    spent = part.milliseconds(
        lambda: views_of(store, rows, plan, seed=0, epoch=0, device=part.device), **turns
    )
    part.write(name, views_per_second=round(1000 * batch * len(plan.views) / spent))


def transfer(part: Part, dtype: torch.dtype) -> None:
    """Two views of 256 images of 224 px from page-locked and from ordinary memory."""
    images = 2 if part.tiny else 512
    ordinary = torch.zeros(images, 3, 224, 224).to(dtype)
    found = {}
    for kind in ("ordinary", "pinned"):
        source = ordinary.pin_memory() if kind == "pinned" and part.on_gpu else ordinary
        spent = part.milliseconds(
            lambda source=source: source.to(part.device, non_blocking=True, copy=True),
            warm=1, turns=5,
        )  # fmt: skip
        found[f"{kind}: GB/s"] = round(source.nbytes / spent / 1e6, 1)
        found[f"{kind}: views per second"] = round(1000 * images / spent)
    part.write(f"transfer of {dtype}", **found)
