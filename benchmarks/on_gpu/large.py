"""Part 9: SimCLR's batch of 4,096 at 224 px on one card, and the loss of 65,536 rows."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import torch

from coview.core.batches import Batch
from coview.core.memory import DoesNotFit
from coview.core.repeatable import repeatable
from coview.methods import Passes
from coview.objectives import nt_xent
from coview.objectives.log_partition import FUSED_LOSS
from coview.recipes import build_task, change, recipe
from coview.training.precision import Precision
from coview.training.step import train_step
from on_gpu.part import Part

# From 1,338 images on, the first maps of two views have more than 2**31 numbers, for which torch
# and cuDNN have other kernels, or none. Of each group, the largest that fits is measured.
BATCHES = ((1280, 1024), (4096, 3072, 2048))


def run(part: Part) -> None:
    rows = 32 if part.tiny else 65_536
    for fused in (False, True) if part.on_gpu else (False,):
        name = f"NT-Xent of {rows} rows, {'fused' if fused else 'tiles'}"
        with part.case(name, needs=2) as go:
            if go:
                loss_of_rows(part, name, rows, fused=fused)
    name = "SimCLR, ResNet-50, 224 px, whole-batch BatchNorm, recomputed blocks"
    if part.tiny:
        with part.case(name) as go:
            if go:
                large_batch(part, name, 4)
        return
    for group in BATCHES:
        for images in group:
            with part.case(f"{name}, batch {images}", needs=8) as go:
                if go and large_batch(part, f"{name}, batch {images}", images):
                    break


def loss_of_rows(part: Part, name: str, rows: int, *, fused: bool) -> None:
    os.environ[FUSED_LOSS] = "1" if fused else "0"
    generator = torch.Generator().manual_seed(1)
    views = [
        torch.randn(rows // 2, 128, generator=generator).to(part.device).requires_grad_()
        for _ in range(2)
    ]  # fmt: skip

    def both() -> None:
        nt_xent(views, temperature=0.1).backward()  # type: ignore[no-untyped-call]

    peak = part.peak(both)  # compiles
    start = time.perf_counter()
    both()
    part.wait()
    turns = 3 if part.left > 10 * (time.perf_counter() - start) else 1
    spent = part.milliseconds(both, warm=0, turns=turns)
    part.write(name, milliseconds=round(spent, 2), gibibytes=round(peak, 2))
    os.environ[FUSED_LOSS] = "0"


def large_batch(part: Part, name: str, images: int) -> bool:
    """One step to warm up and one that is measured; False where it does not fit."""
    chosen = replace(recipe("simclr-imagenet"), batch_size=images)
    if part.tiny:
        chosen = change(recipe("simclr-cpu"), encoder="resnet10/8-small", batch_size=4, size=8)
    learner = build_task(chosen, total_steps=1000)
    learner.set_passes(Passes(activation_checkpointing=True))
    precision = Precision(part.device, "bf16" if part.on_gpu else "fp32")
    precision.prepare(learner)
    built = chosen.optimizer.build(learner)
    size = chosen.image_size
    generator = torch.Generator(part.device).manual_seed(0)
    views = tuple(
        torch.rand(images, 3, size, size, generator=generator, device=part.device) for _ in range(2)
    )
    batch = Batch(step=0, epoch=0, views=views, ids=torch.arange(images, device=part.device))
    times: list[float] = []

    def step() -> None:
        start = time.perf_counter()
        taken = train_step(learner, batch, built, 0.1, precision)
        part.wait()
        times.append(time.perf_counter() - start)
        if taken.skipped:
            raise ArithmeticError(taken.reason)

    try:
        with repeatable(part.device):
            peak = part.peak(step)
            step()
    except DoesNotFit as error:
        # Where cuDNN has no kernel it says the same as where its memory is too small.
        lacks = isinstance(error.__cause__, torch.OutOfMemoryError)
        why = "does not fit" if lacks else "no memory, or no kernel for so many numbers"
        part.write(name, note=f"{why}: {error.__cause__}"[:300])
        return False
    part.write(name, ok=True, batch=images, seconds=round(times[-1], 2),
               images_per_second=round(images / times[-1]), gibibytes=round(peak, 1))  # fmt: skip
    return True
