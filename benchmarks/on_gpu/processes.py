"""The rest of part 3: the collective operations on a GPU."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from coview.core.machine import cores
from coview.core.ranks import Ranks, _AllGather, summed
from coview.core.repeatable import repeatable
from coview.methods import Learner
from coview.training.distribution import init_process_group
from coview.training.precision import Precision
from coview.training.step import gradients
from on_gpu.networks import SEED, SGD, SMALL, distance, gradient_of, make_batch, methods, rounded
from on_gpu.part import Part

AFTER = 8.0  # seconds for the step of one process, and for what follows


def run(part: Part) -> None:
    name = "one process of NCCL, gloo beside it" if part.on_gpu else "one process of gloo"
    with part.case(name, needs=5) as go:
        if go:
            nccl(part, name)
    name = "two processes of gloo on one device"
    with part.case(name, needs=0 if part.tiny else 20) as go:
        if go:
            two_processes(part, name)


def nccl(part: Part, name: str) -> None:
    """gather, its gradient and the sum, in a group of one: NCCL with gloo beside it."""
    with tempfile.TemporaryDirectory() as folder:
        init_process_group(dist.FileStore(f"{folder}/store", 1), 0, 1, part.device)
        try:
            ranks = Ranks.of()
            rows = torch.arange(6.0, device=part.device).view(3, 2).requires_grad_()
            gathered = _AllGather.apply(rows, ranks, (3,))
            gathered.square().sum().backward()
            total = summed(rows.detach(), ranks)
            group: Any = dist.group.WORLD
            same = torch.equal(gathered, rows) and torch.equal(total, rows)
            right = rows.grad is not None and torch.equal(rows.grad, 2 * rows.detach())
            part.write(
                name,
                ok=bool(same and right),
                sizes_on=str(ranks._integers([1]).device),
                backend=str(dist.get_backend_config(group)),
            )
        finally:
            dist.destroy_process_group()


def two_processes(part: Part, name: str) -> None:
    """Two processes that share the device take the step of one: loss and gradient."""
    with tempfile.TemporaryDirectory() as folder:
        # A process that has used CUDA cannot fork; without it a fork saves the imports.
        context: Any = multiprocessing.get_context("spawn" if part.on_gpu else "fork")
        processes = [
            context.Process(target=worker, args=(folder, rank, part.device, part.tiny))
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + max(5, part.left - AFTER)
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        if codes != [0, 0]:
            words = [path.read_text() for path in sorted(Path(folder).glob("error*.txt"))]
            note = "; ".join(words) or "see the log of this part"
            part.write(name, ok=False, note=f"ended with codes {codes}: {note}")
            return
        found = torch.load(Path(folder) / "gradient.pt", weights_only=True)
    whole_loss, whole = one_step(part.device, part.tiny, Ranks())
    far = distance(found["gradient"], whole)
    off = abs(float(found["loss"]) - whole_loss)
    part.write(
        name, ok=far["relative"] < 1e-3 and off < 1e-4,
        **rounded({"loss off": off, "gradient off": far["relative"]}),
    )  # fmt: skip


def one_step(device: torch.device, tiny: bool, ranks: Ranks) -> tuple[float, torch.Tensor]:
    """The loss of the whole batch and the mean gradient; each rank has its half of the images."""
    method, images = methods(8 if tiny else 16)["simclr"], 8 if tiny else 32
    learner = Learner(
        method, SMALL.build(SEED), head_seed=SEED, total_steps=1000, ranks=ranks
    )  # fmt: skip
    precision = Precision(device, "fp32")
    precision.prepare(learner)
    batch = make_batch(method, images, 0)
    own = slice(ranks.rank * images // ranks.world, (ranks.rank + 1) * images // ranks.world)
    batch = replace(
        batch, views=tuple(view[own] for view in batch.views), ids=batch.ids[own], labels=None,
        sizes=() if ranks.is_single else (images // ranks.world,) * ranks.world,
    )  # fmt: skip
    with repeatable(device):
        terms, _ = gradients(learner, precision.place(batch), SGD.build(learner), precision, ranks)
    loss = sum(float(ranks.mean(term.detach())) for term in terms.values())
    return loss, gradient_of(learner)


def worker(folder: str, rank: int, device: torch.device, tiny: bool) -> None:
    torch.set_num_threads(max(1, cores() // 2) if device.type == "cuda" else 1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        loss, found = one_step(device, tiny, Ranks.of())
    except Exception as error:
        words = f"rank {rank}: {type(error).__name__}: {str(error)[:200]}"
        (Path(folder) / f"error{rank}.txt").write_text(words)
        raise
    if rank == 0:
        torch.save({"loss": torch.tensor(loss), "gradient": found}, Path(folder) / "gradient.pt")
    dist.barrier()
    dist.destroy_process_group()
