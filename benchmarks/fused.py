"""NT-Xent on a GPU, forward and backward: the fused kernels beside the tiles, in one run.

    python benchmarks/fused.py

Both take turns on the same embeddings (D = 128, temperature 0.1); milliseconds are medians, the
error is the largest difference of a gradient from float64's, beside its largest entry. Decides
whether docs/decisions/0007 is to be reversed. Needs a CUDA device.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import torch
from torch import Tensor

from coview.objectives import nt_xent
from coview.objectives.log_partition import FUSED_LOSS
from setting import setting

WIDTH, TEMPERATURE, TURNS = 128, 0.1, 20
IMAGES = (256, 1024, 4096, 16384, 32768)
MOST_EXACT = 8192  # images whose gradient is also taken in float64


def gradients(views: list[Tensor], *, fused: bool) -> list[Tensor]:
    os.environ[FUSED_LOSS] = "1" if fused else "0"
    return list(torch.autograd.grad(nt_xent(views, temperature=TEMPERATURE), views))


def milliseconds(views: list[Tensor], *, fused: bool) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    gradients(views, fused=fused)
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def error(views: list[Tensor], *, fused: bool) -> str:
    if len(views[0]) > MOST_EXACT:
        return "-"
    exact = gradients([view.detach().double().requires_grad_() for view in views], fused=False)[0]
    found = gradients(views, fused=fused)[0]
    return f"{float((found - exact).abs().max() / exact.abs().max()):.1e}"


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device on this machine.")
    print(f"fused: {setting()}; {torch.cuda.get_device_name()}\n")
    print("| images | tiles, ms | fused, ms | ratio | error of tiles | error of fused |")
    print("|---:|---:|---:|---:|---:|---:|")
    for images in IMAGES:
        generator = torch.Generator("cuda").manual_seed(images)
        shape = (images, WIDTH)
        views = [
            torch.randn(shape, device="cuda", generator=generator).requires_grad_() for _ in "12"
        ]
        for fused in (False, True):  # compiles, and fills the allocator
            gradients(views, fused=fused)
        turns = [[milliseconds(views, fused=f) for f in (False, True)] for _ in range(TURNS)]
        tiles, kernels = (statistics.median(column) for column in zip(*turns, strict=True))
        errors = " | ".join(error(views, fused=f) for f in (False, True))
        print(f"| {images:,} | {tiles:.2f} | {kernels:.2f} | {tiles / kernels:.2f} | {errors} |")


if __name__ == "__main__":
    main()
