"""Part 7: NT-Xent in tiles beside the fused kernels; which is the default is decided here."""

from __future__ import annotations

import os
import statistics

import torch
from torch import Tensor

from coview.objectives import nt_xent
from coview.objectives.log_partition import FUSED_LOSS
from on_gpu.part import Part

WIDTH, TEMPERATURE = 128, 0.1
IMAGES = (256, 1024, 4096, 16384, 32768)
MOST_EXACT = 4096  # images whose gradient is also taken in float64
TURNS_SECONDS = 2.0  # of one size


def run(part: Part) -> None:
    if not part.on_gpu:
        with part.case("tiles of 8 images") as go:
            if go:
                part.write("tiles of 8 images", **timed(part, 8, fused=False))
        return
    faster, needs = [], 3.0
    for images in IMAGES:
        with part.case(f"NT-Xent of {images} images", needs=needs) as go:
            if go:
                is_faster, seconds = compare(part, images)
                faster.append(is_faster)
                # Four calls of each at least; time grows with the square of the images.
                needs = max(3.0, 4 * seconds * 16)
    if faster:
        part.write(
            "the fused kernels are faster at every size and as exact", ok=None,
            holds=len(faster) == len(IMAGES) and all(faster), sizes=len(faster),
        )  # fmt: skip


def views_of_size(part: Part, images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [
        torch.randn(images, WIDTH, generator=generator).to(part.device).requires_grad_()
        for _ in range(2)
    ]  # fmt: skip


def gradients(views: list[Tensor], *, fused: bool) -> list[Tensor]:
    os.environ[FUSED_LOSS] = "1" if fused else "0"
    return list(torch.autograd.grad(nt_xent(views, temperature=TEMPERATURE), views))


def timed(part: Part, images: int, *, fused: bool) -> dict[str, float]:
    views = views_of_size(part, images)
    peak = part.peak(lambda: gradients(views, fused=fused))
    spent = part.milliseconds(lambda: gradients(views, fused=fused), warm=1, turns=5)
    return {"milliseconds": round(spent, 3), "gibibytes": round(peak, 3)}


def compare(part: Part, images: int) -> tuple[bool, float]:
    """Both in turns; whether the fused kernels are faster, and no less exact; seconds of both."""
    views = views_of_size(part, images)

    def both() -> list[float]:
        return [
            part.milliseconds(lambda f=f: gradients(views, fused=f), warm=0, turns=1)
            for f in (0, 1)
        ]

    both()  # compiles, and fills the allocator
    turns = [both()]
    seconds = sum(turns[0]) / 1000
    while len(turns) < 8 and len(turns) * seconds < TURNS_SECONDS:
        turns.append(both())
    tiles, kernels = (statistics.median(column) for column in zip(*turns, strict=True))
    peaks = [part.peak(lambda f=f: gradients(views, fused=f)) for f in (0, 1)]
    values: dict[str, float] = {
        "tiles: milliseconds": round(tiles, 3), "fused: milliseconds": round(kernels, 3),
        "ratio": round(tiles / kernels, 2), "tiles: gibibytes": round(peaks[0], 3),
        "fused: gibibytes": round(peaks[1], 3),
    }  # fmt: skip
    exact_enough = True
    if images <= MOST_EXACT:
        doubles = [view.detach().double().requires_grad_() for view in views]
        exact = gradients(doubles, fused=False)[0]
        off = [
            float((gradients(views, fused=f)[0] - exact).abs().max() / exact.abs().max())
            for f in (False, True)
        ]
        values |= {"tiles: error": float(f"{off[0]:.2g}"), "fused: error": float(f"{off[1]:.2g}")}
        exact_enough = off[1] <= max(3 * off[0], 3e-5)
    part.write(f"NT-Xent of {images} images", ok=exact_enough, **values)
    return kernels < tiles and exact_enough, seconds
