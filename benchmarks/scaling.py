"""What a step costs on many devices: an alpha-beta model on paper, and its error here.

    python benchmarks/scaling.py            the tables of docs/scaling.md
    python benchmarks/scaling.py measure    gloo on this machine beside the model

A message of n bytes takes alpha + n / B. For W processes, with n bytes on each:

    all-reduce               2 (W - 1) / W  n / B  +  rounds alpha     rounds = 2 ceil(log2 W)
    gather, reduce-scatter      (W - 1)     n / B  +  rounds alpha     rounds =   ceil(log2 W)

(Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
2005). gloo's algorithms are rings: 2 (W - 1) and W - 1 rounds.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FLOAT = 4  # bytes of a gradient and of an embedding
VIEWS, WIDTH = 2, 128
USEFUL_BATCH = 16_384  # assumption: beyond it larger batches stop to help (see docs/scaling.md)
LOSS_FLOPS = 4e14  # assumption: bf16 products of the loss on an H100-class device


@dataclass(frozen=True)
class Link:
    """A link of ``bytes_per_second`` each way, ``alpha`` seconds for a message. Assumptions."""

    name: str
    bytes_per_second: float
    alpha: float


@dataclass(frozen=True)
class Network:
    """``flops`` is what a device is assumed to reach; ``images`` what fits on one. Assumptions."""

    name: str
    parameters: int
    flop_per_view: float
    flops: float
    images: int
    norms: int


NVLINK = Link("NVLink 4", 450e9, 5e-6)
INFINIBAND = Link("InfiniBand NDR", 50e9, 10e-6)
ETHERNET = (Link("10 GbE", 1.25e9, 50e-6), Link("1 GbE", 0.125e9, 50e-6))
NETWORKS = (
    Network("ResNet-50", 23_508_032, 24.3e9, 1.58e14, 512, 53),
    Network("ResNet-152 width 3, selective kernels", 794_704_160, 9.46e11, 4e14, 32, 207),
)
COUNTS = (8, 64, 512, 4096)


def all_reduce(size: float, world: int, link: Link, rounds: int | None = None) -> float:
    """Seconds until all of ``world`` have the sum of ``size`` bytes."""
    rounds = 2 * math.ceil(math.log2(world)) if rounds is None else rounds
    return 2 * (world - 1) / world * size / link.bytes_per_second + rounds * link.alpha


def gather(size: float, world: int, link: Link, rounds: int | None = None) -> float:
    """Seconds until all have the ``size`` bytes of each; a reduce-scatter of them takes as long."""
    rounds = math.ceil(math.log2(world)) if rounds is None else rounds
    return (world - 1) * size / link.bytes_per_second + rounds * link.alpha


@dataclass(frozen=True)
class Cost:
    """Seconds of the parts of one step; nothing is assumed to overlap."""

    compute: float
    loss: float
    gradients: float
    embeddings: float
    norms: float

    @property
    def step(self) -> float:
        return self.compute + self.loss + self.gradients + self.embeddings + self.norms

    @property
    def useful(self) -> float:
        return self.compute / self.step


def cost(network: Network, images: int, world: int, link: Link) -> Cost:
    """A step of SimCLR, ``images`` on each device: loss over all, norms synchronized over all."""
    rows = images * VIEWS
    embeddings = 2 * VIEWS * gather(images * WIDTH * FLOAT, world, link)
    # A few hundred channels each: the bytes do not count, the rounds do, once each way.
    norms = network.norms * (gather(0, world, link) + all_reduce(0, world, link))
    return Cost(
        compute=rows * network.flop_per_view / network.flops,
        loss=6 * rows**2 * world * WIDTH / LOSS_FLOPS,
        gradients=all_reduce(network.parameters * FLOAT, world, link),
        embeddings=embeddings,
        norms=norms,
    )


def tables() -> Iterator[str]:
    """Markdown: weak scaling, slow links, and one batch shared by more and more devices."""
    head = "| link | devices | batch | compute | gradients | embeddings | norms | loss | useful |"
    rule = "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for network in NETWORKS:
        yield f"\n**{network.name}**, {network.images} images a device, milliseconds a step:\n"
        yield from (head, rule)
        for world in COUNTS:
            yield row(network, network.images, world, NVLINK if world <= 8 else INFINIBAND)
        for link in ETHERNET:
            for world in (8, 64):
                yield row(network, network.images, world, link)
        yield f"\n**{network.name}**, a batch of 4,096 images shared by all:\n"
        yield from (head, rule)
        for world in (8, 32, 128, 512):
            yield row(network, 4096 // world, world, NVLINK if world <= 8 else INFINIBAND)
        most = USEFUL_BATCH // network.images
        yield f"\nThe batch reaches {USEFUL_BATCH:,} images at {most} devices."


def row(network: Network, images: int, world: int, link: Link) -> str:
    """One line of a table."""
    found = cost(network, images, world, link)
    parts = (found.compute, found.gradients, found.embeddings, found.norms, found.loss)
    times = " | ".join(f"{1000 * part:,.1f}" for part in parts)
    return f"| {link.name} | {world:,} | {images * world:,} | {times} | {found.useful:.0%} |"


# Measuring: gloo between processes of this machine.

SIZES = (4 << 10, 64 << 10, 1 << 20, 8 << 20, 32 << 20)
REPEATS = 25


def measured(world: int) -> dict[str, list[float]]:
    """Least seconds of an all-reduce and of a gather of each of ``SIZES`` bytes a process."""
    import torch
    import torch.multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_measure, args=(world, folder), nprocs=world)
        found: dict[str, list[float]] = torch.load(f"{folder}/seconds", weights_only=True)
        return found


def _measure(rank: int, world: int, folder: str) -> None:
    import torch
    import torch.distributed as dist

    from coview.core.ranks import Ranks

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/met", rank=rank, world_size=world)
    ranks = Ranks.of()

    def seconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(REPEATS):
            ranks.barrier()
            start = time.perf_counter()
            work()
            taken.append(
                ranks.all_reduce_sum(torch.tensor(time.perf_counter() - start)).item() / world
            )
        return min(taken)  # whatever else the machine does only adds to it

    found: dict[str, list[float]] = {"all-reduce": [], "gather": []}
    for size in SIZES:
        rows = torch.ones(size // FLOAT)
        found["all-reduce"].append(seconds(lambda rows=rows: dist.all_reduce(rows)))
        found["gather"].append(seconds(lambda rows=rows: ranks.gather(rows, (len(rows),) * world)))
    if ranks.is_main:
        torch.save(found, f"{folder}/seconds")
    dist.destroy_process_group()


def fitted(seconds: list[float], world: int) -> Link:
    """The link that the smallest and the largest all-reduce of ``world`` processes speak of."""
    alpha = seconds[0] / (2 * (world - 1))
    rest = seconds[-1] - seconds[0]
    return Link("fitted", 2 * (world - 1) / world * (SIZES[-1] - SIZES[0]) / rest, alpha)


def comparison() -> Iterator[str]:
    """Markdown: what was measured beside what two all-reduces of two processes predict."""
    link = None
    yield "| processes | operation | bytes each | measured ms | model ms | model / measured |"
    yield "|---:|---|---:|---:|---:|---:|"
    for world in (2, 4):
        found = measured(world)
        if link is None:
            link = fitted(found["all-reduce"], world)
        for operation, model, rounds in (
            ("all-reduce", all_reduce, 2 * (world - 1)), ("gather", gather, world - 1),
        ):  # fmt: skip
            for size, seconds in zip(SIZES, found[operation], strict=True):
                said = model(size, world, link, rounds)
                yield (
                    f"| {world} | {operation} | {size:,} | {1000 * seconds:.2f} | "
                    f"{1000 * said:.2f} | {said / seconds:.2f} |"
                )
    assert link is not None
    yield f"\nfitted: alpha {1e6 * link.alpha:.0f} us, {link.bytes_per_second / 1e9:.2f} GB/s"


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        from setting import setting

        print(setting(), "\n")
        print("\n".join(comparison()))
    else:
        print("\n".join(tables()))
