"""What this machine's CPU can do at most: the rate of one large matrix product.

    python benchmarks/peak.py

A network cannot train faster than this allows: a training step of ResNet-18 with the small-image
stem at 32 px takes 3.33 GFLOP a view, so that the last column bounds its views a second.
"""

from __future__ import annotations

import time

from coview.cli.main import share_cores

share_cores()

import torch  # noqa: E402

from setting import setting  # noqa: E402

SIDE, TURNS = 2048, 15
GFLOP_OF_A_VIEW = 3.33


def gflops(dtype: torch.dtype) -> float:
    """The best of several products of two square matrices, in GFLOP/s."""
    a, b = torch.randn(2, SIDE, SIDE, dtype=torch.float32).to(dtype).unbind()
    best = float("inf")
    for _ in range(TURNS):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def main() -> None:
    print(f"peak: {setting()}\n")
    print("| format | threads | GFLOP/s | ResNet-18 views/s at most |")
    print("|---|---:|---:|---:|")
    for threads in (1, torch.get_num_threads()):
        torch.set_num_threads(threads)
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            rate = gflops(dtype)
            print(f"| {name} | {threads} | {rate:,.0f} | {rate / GFLOP_OF_A_VIEW:,.0f} |")


if __name__ == "__main__":
    main()
