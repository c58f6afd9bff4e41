"""One process among those that torchrun has started: finding the others, agreeing, ending together.

Whatever decides what happens next (refuse the step, stop, go on) is decided by all processes or
by none; otherwise one of them would wait for ever in an exchange that the others never enter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from coview.core.errors import InvalidValue, ProcessLost
from coview.core.files import digest
from coview.core.machine import world_of_torchrun
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.training.heartbeat import Heartbeat
from coview.training.precision import choose_device

MEETING = timedelta(minutes=5)
# Rank 0 may evaluate or write for long while the others wait; the heartbeat sees who has died.
EXCHANGE = timedelta(hours=2)
BUCKET = 32 << 20  # bytes of one all-reduce: enough to fill a link, little beside the activations
CONNECTION_SAYS = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


def local_device(asked: str = "auto") -> torch.device:
    """The device called so; under torchrun every process of a machine has a GPU of its own.

    Raises InvalidValue where there are fewer GPUs than processes, or the name is of one GPU.
    """
    device = choose_device(asked)
    if device.type != "cuda" or world_of_torchrun() == 1:
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if asked not in ("auto", "cuda"):
        raise InvalidValue(f"{asked!r} is one GPU for all processes; give auto or cuda.")
    if local >= count:
        raise InvalidValue(
            f"Process {local} of this machine has no GPU of its own, for there are {count}; "
            f"start torchrun with --nproc-per-node {count}."
        )
    return torch.device("cuda", local)


@contextmanager
def init_distributed(device: torch.device) -> Iterator[Ranks]:
    """The processes of this run from their meeting to their end; ``SINGLE_PROCESS`` without torchrun.

    They exchange by NCCL where ``device`` is a GPU (flags, sizes and words still by gloo, which
    does not make the host wait for the GPU), else by gloo. Only rank 0 prints: the standard output
    of the others is dropped; their errors are not. The body ends when all ranks have ended it.

    An error of one process ends all. Raises ProcessLost where another process has gone; where
    this one cannot know (it computes, or waits for a GPU) its heartbeat ends it within 25 s.
    """
    if world_of_torchrun() == 1:
        yield SINGLE_PROCESS
        return
    with connection_sentence():
        store, rank, world = next(rendezvous("env://", timeout=MEETING))
    heartbeat = Heartbeat(store.clone(), rank, world)
    heartbeat.start()
    try:
        with connection_sentence():
            meet(store, rank, world, device)
            with silent(unless=rank == 0):
                yield Ranks.of()
                heartbeat.shutdown()
                Ranks.of().barrier()
    except BaseException as error:
        heartbeat.shutdown()
        heartbeat.report_failure(f"Process {rank} has ended: {str(error) or type(error).__name__}")
        raise
    finally:
        heartbeat.stop()
    dist.destroy_process_group()


def meet(store: Any, rank: int, world: int, device: torch.device) -> None:
    """Start torch's process group on ``device``."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=world,
        timeout=EXCHANGE,
        device_id=device if on_gpu else None,
    )


@contextmanager
def connection_sentence() -> Iterator[None]:
    """Turn what torch says of a broken connection into one sentence."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, dist.DistError) or any(w in str(error) for w in CONNECTION_SAYS)
        if not broken:
            raise
        raise ProcessLost(
            "Another process of this run has ended, so this one cannot go on; what was saved "
            f"before is whole: start the same command again, or coview resume. (torch: {error})"
        ) from error


@contextmanager
def silent(*, unless: bool) -> Iterator[None]:
    """Drop what is printed."""
    if unless:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def agreed_reason(reason: str, ranks: Ranks) -> str:
    """Why to stop, the same on all ranks: the first rank's ``reason`` that is not ""."""
    if not ranks.any(bool(reason)):
        return ""
    return next(text for text in ranks.gather_strings(reason) if text)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Give every parameter the mean over the ranks of its gradients, the same bits on all.

    A parameter without a gradient on some ranks counts as 0 there; without one on any, it stays
    without one. One all-reduce for each 32 MiB.
    """
    if ranks.is_single:
        return
    listed = list(parameters)
    found = ranks.any_each([parameter.grad is not None for parameter in listed])
    for parameter in (p for p, somewhere in zip(listed, found, strict=True) if somewhere):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in listed if parameter.grad is not None]
    for bucket in buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat, group=ranks.group)
        write_back(flat.div_(ranks.world), bucket)


def assert_replicas_equal(module: nn.Module, ranks: Ranks) -> None:
    """Raise InvalidValue, on every rank, unless ``module`` has the same bits on all ranks.

    The error names the first parameter or buffer that differs.
    """
    if ranks.is_single:
        return
    own = {name: bits(tensor) for name, tensor in module.state_dict().items()}
    hashes = ranks.gather_strings(digest(repr(own).encode()))
    if len(set(hashes)) == 1:
        return
    listed = ranks.gather_strings("\n".join(f"{name} {value}" for name, value in own.items()))
    other = next(rank for rank in range(ranks.world) if hashes[rank] != hashes[0])
    here, there = (listed[rank].split("\n") for rank in (0, other))
    differing = next((a for a, b in zip(here, there, strict=False) if a != b), "the last tensor")
    raise InvalidValue(
        f"Processes 0 and {other} differ in {differing.split(' ')[0]}, though both must hold the "
        "same network: start all of them with the same command, seed and checkpoint."
    )


def bits(tensor: Tensor) -> str:
    """The hash of a tensor's values."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return digest(content.numpy().tobytes())


def buckets(tensors: Iterable[Tensor], limit: int = BUCKET) -> Iterator[list[Tensor]]:
    """The tensors in order, those of one type together, up to ``limit`` bytes or one tensor."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor)
    for alike in kinds.values():
        bucket: list[Tensor] = []
        size = 0
        for tensor in alike:
            if bucket and size + tensor.nbytes > limit:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += tensor.nbytes
        yield bucket


def write_back(flat: Tensor, tensors: list[Tensor]) -> None:
    """Give each of ``tensors`` its part of ``flat``."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(
        tensors, [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    )
