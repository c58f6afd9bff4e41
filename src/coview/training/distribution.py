"""The processes that torchrun has started: initialization, agreement, common end.

All processes must take the same decision (skip the step, stop, continue). Otherwise one of them
waits forever in a collective operation that the others never call.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from coview.core.errors import InvalidValue, ProcessLost
from coview.core.files import digest
from coview.core.machine import world_of_torchrun
from coview.core.progress import output
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.tensors import tensor_hash
from coview.training.heartbeat import Heartbeat
from coview.training.precision import choose_device, missing_code, require_code

INIT_TIMEOUT = timedelta(minutes=5)
MEETING_INTERVAL = 0.05  # seconds
# Rank 0 may evaluate or write for long while the others wait; the heartbeat detects dead processes.
COLLECTIVE_TIMEOUT = timedelta(hours=2)
LOST = "Another process of this run has ended"
CONNECTION_MESSAGES = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


def local_device(name: str = "auto") -> torch.device:
    """The device of this process; under torchrun every process of a machine has its own GPU.

    ``name`` is "auto", "cpu", "cuda" or, without torchrun, any torch device. Raises InvalidValue
    where there are fewer GPUs than processes, torch has no code for one of them, or ``name`` is one
    GPU, or neither CPU nor CUDA, for several processes.

    >>> local_device("cpu")
    device(type='cpu')
    """
    device = choose_device(name)
    if device.type == "cpu" or world_of_torchrun() == 1:
        return device
    if device.type != "cuda":
        raise InvalidValue(
            f"`device` is {name!r}, which works in one process only; expected auto, cpu or cuda."
        )
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if name not in ("auto", "cuda"):
        raise InvalidValue(
            f"`device` is {name!r}, one GPU for all processes; expected auto or cuda."
        )
    if local >= count:
        raise InvalidValue(
            f"Process {local} of this machine has no GPU: there are {count}. Start torchrun with "
            f"--nproc-per-node {count}."
        )
    device = torch.device("cuda", local)
    require_code(device, str(device))
    return device


def check_devices(processes: int, name: str) -> None:
    """Raise InvalidValue where ``processes`` of this machine would have to share GPUs.

    >>> check_devices(4, "cpu")
    """
    count = torch.cuda.device_count()
    too_few = name in ("auto", "cuda") and 0 < count < processes
    # Where "auto" cannot take the first GPU, all processes take the CPU.
    if too_few and not (name == "auto" and missing_code(torch.device("cuda", 0))):
        raise InvalidValue(
            f"`processes` is {processes}, and this machine has {count} GPUs, one for each process; "
            f"expected {count} or fewer, or `device` cpu."
        )


@contextmanager
def init_distributed(device: torch.device) -> Iterator[Ranks]:
    """Initialize torch.distributed for the body; ``SINGLE_PROCESS`` without torchrun.

    The backend is NCCL where ``device`` is a GPU, with gloo for flags, sizes and strings, for which
    the host then does not wait for the GPU; else gloo. Only rank 0 writes to the standard output.
    All ranks leave the body together. It may be called again afterwards, for another group.

    An error in one process ends all. Raises ProcessLost where another process has ended; where
    this one cannot notice (it computes, or waits for a GPU), its heartbeat ends it within 25 s.

    >>> with init_distributed(torch.device("cpu")) as ranks:
    ...     ranks.is_main
    True
    """
    if world_of_torchrun() == 1:
        yield SINGLE_PROCESS
        return
    with connection_errors():
        shared, rank, world = shared_store()
        store = PrefixStore(meet(shared, rank, world), shared)
    heartbeat = Heartbeat(store.clone(), rank, world)
    heartbeat.start()
    try:
        with connection_errors():
            init_process_group(store, rank, world, device)
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


@cache
def shared_store() -> tuple[Any, int, int]:
    """torch's key-value store of all processes, the rank of this one, and their number.

    One for the life of this process: where torchrun has none, that of rank 0 holds it for all.
    """
    store, rank, world = next(rendezvous("env://", timeout=INIT_TIMEOUT))
    return store, rank, world


def meet(store: Any, rank: int, world: int) -> str:
    """Wait until all processes are here; returns a new prefix for the keys of their group.

    Without it a group finds keys of an earlier one: torchrun's store outlives a group and, where
    torchrun restarts them, the processes. Its count of restarts may differ between machines.
    Raises torch's DistStoreError where a process does not arrive within INIT_TIMEOUT.
    """
    me = uuid4().hex
    store.set(f"coview/here/{rank}", me)
    if rank > 0:
        prefix = str(store.get(f"coview/prefix/{me}").decode())
        store.set(f"{prefix}/joined/{rank}", "")
        store.get(f"{prefix}/met")
        return prefix
    prefix, missing = f"coview/{me}", set(range(1, world))
    until = time.monotonic() + INIT_TIMEOUT.total_seconds()
    while missing:
        for other in missing:
            if store.check([f"coview/here/{other}"]):  # may be a process that has gone
                there = store.get(f"coview/here/{other}").decode()
                store.set(f"coview/prefix/{there}", prefix)
        missing = {other for other in missing if not store.check([f"{prefix}/joined/{other}"])}
        if missing and time.monotonic() > until:
            raise dist.DistStoreError(
                f"process {min(missing)} has not started within {INIT_TIMEOUT}"
            )
        time.sleep(MEETING_INTERVAL)
    store.set(f"{prefix}/met", "")
    return prefix


def init_process_group(store: Any, rank: int, world: int, device: torch.device) -> None:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=world,
        timeout=COLLECTIVE_TIMEOUT, device_id=device if on_gpu else None,
    )  # fmt: skip


@contextmanager
def connection_errors() -> Iterator[None]:
    """Turn torch's errors of a broken connection into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, dist.DistError) or any(
            w in str(error) for w in CONNECTION_MESSAGES
        )
        if not broken:
            raise
        raise ProcessLost(
            f"{LOST}, so this one cannot continue. The last "
            "checkpoint is intact: start the same command again, or use coview resume. "
            f"(torch: {error})"
        ) from error


@contextmanager
def silent(*, unless: bool) -> Iterator[None]:
    if unless:
        yield
        return
    with (
        Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null), output(muted=True),
    ):  # fmt: skip
        yield


def agreed_reason(reason: str, ranks: Ranks) -> str:
    """The reason to stop, the same on all ranks: the first that is not ""; else "".

    >>> agreed_reason("stopped by Ctrl-C", SINGLE_PROCESS)
    'stopped by Ctrl-C'
    """
    if not ranks.any(bool(reason)):
        return ""
    return next(text for text in ranks.gather_strings(reason) if text)


def assert_replicas_equal(module: nn.Module, ranks: Ranks) -> None:
    """Raise InvalidValue, on every rank, unless ``module`` has the same bits on all ranks.

    The error names the first parameter or buffer that differs.

    >>> with init_distributed(torch.device("cpu")) as ranks:
    ...     assert_replicas_equal(nn.Linear(2, 1), ranks)
    """
    if ranks.is_single:
        return
    state = {name: tensor_hash(tensor) for name, tensor in module.state_dict().items()}
    hashes = ranks.gather_strings(digest(repr(state).encode()))
    if len(set(hashes)) == 1:
        return
    listings = ranks.gather_strings("\n".join(f"{name} {h}" for name, h in state.items()))
    other = next(rank for rank in range(ranks.world) if hashes[rank] != hashes[0])
    first, second = (listings[rank].split("\n") for rank in (0, other))
    differing = next((a for a, b in zip(first, second, strict=False) if a != b), "the last tensor")
    raise InvalidValue(
        f"Processes 0 and {other} differ in {differing.split(' ')[0]}; both must hold the same "
        "network. Start all processes with the same command, seed and checkpoint."
    )
