"""NT-Xent, forward and backward: ours beside lightly's NTXentLoss, in one run.

    python benchmarks/loss.py [--quick] [--threads N]

Time: both take turns on the same embeddings; the ratio is that of the medians. Memory: the peak
of a fresh process each, beyond what was resident before, the gradient of the embeddings included
(Linux only). Prints a Markdown table with the machine and the commit. A case whose peer needs
more memory than the machine has is run for ours alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from coview.core.machine import memory_bytes
from setting import setting

WIDTH, TEMPERATURE = 128, 0.5
Loss = Callable[[list[torch.Tensor]], torch.Tensor]


def ours() -> Loss:
    from coview.objectives import nt_xent

    return lambda views: nt_xent(views, temperature=TEMPERATURE)


def lightly() -> Loss:
    warnings.simplefilter("ignore")
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)
    return lambda views: loss(*views)


LOSSES: dict[str, Callable[[], Loss]] = {"ours": ours, "lightly": lightly}


def embeddings(images: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(images)
    return [
        torch.randn(images, WIDTH, generator=generator).requires_grad_() for _ in range(2)
    ]  # fmt: skip


def seconds(loss: Loss, views: list[torch.Tensor]) -> float:
    for view in views:
        view.grad = None
    start = time.perf_counter()
    loss(views).backward()
    return time.perf_counter() - start


def timed(names: list[str], images: int, repeats: int) -> dict[str, float]:
    """Median seconds of each loss; they alternate, and the first turn does not count."""
    losses, views = {name: LOSSES[name]() for name in names}, embeddings(images)
    turns = [{name: seconds(losses[name], views) for name in names} for _ in range(repeats + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in names}


def extra_megabytes(name: str, images: int, threads: int) -> float:
    command = [sys.executable, __file__, "--measure", name, str(images), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure(name: str, images: int) -> None:
    """Peak resident memory of one forward and backward beyond what was resident before."""
    loss, views = LOSSES[name](), embeddings(images)
    loss(embeddings(8)).backward()  # code and thread buffers are in place
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    loss(views).backward()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def fits(images: int) -> bool:
    """Whether the peer's matrices, 4.5 of rows x rows floats, fit into three quarters of memory."""
    return 4.5 * (2 * images) ** 2 * 4 < 0.75 * memory_bytes()


def row(images: int, repeats: int, threads: int) -> str:
    names = ["ours", "lightly"] if fits(images) else ["ours"]
    spent = timed(names, images, repeats)
    extra = {name: extra_megabytes(name, images, threads) for name in names}
    cells = [f"{images:,}", f"{spent['ours']:.3f}"]
    if "lightly" in names:
        cells += [f"{spent['lightly']:.3f}", f"{spent['lightly'] / spent['ours']:.1f}x"]
        cells += [f"{extra['ours']:.0f}", f"{extra['lightly']:.0f}"]
        cells += [f"{extra['lightly'] / max(extra['ours'], 1):.0f}x"]
    else:
        cells += ["does not fit", "-", f"{extra['ours']:.0f}", "-", "-"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small batches, three repeats")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--measure", nargs=2, metavar=("LOSS", "IMAGES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.measure:
        return measure(given.measure[0], int(given.measure[1]))

    print(
        f"NT-Xent forward and backward, 2 views, width {WIDTH}, float32, {given.threads} threads."
    )
    print(f"{setting()}.\n")
    print("| images | ours s | lightly s | time ratio | ours MB | lightly MB | memory ratio |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for images in (256, 1024) if given.quick else (256, 1024, 4096, 16384):
        print(row(images, 3 if given.quick else 7, given.threads), flush=True)


if __name__ == "__main__":
    main()
