"""One training step: loss, gradients, one host-device sync (is it finite?), then the update."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from coview.core.batches import Batch
from coview.core.machine import runs_here
from coview.core.memory import DoesNotFit, memory_cause
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.rng import Stream, stream_seed
from coview.training.precision import Precision
from coview.training.task import Task

BUCKET = 32 << 20  # bytes of one all-reduce: enough to use the bandwidth of a link


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """The result of one step. ``terms`` (of this rank) and ``gradient_norm`` are on the device.

    ``skipped``: a number was not finite, so nothing was updated.
    """

    skipped: bool
    terms: dict[str, Tensor]
    gradient_norm: Tensor

    @property
    def loss(self) -> float:
        return float(total_of(self.terms))

    @property
    def reason(self) -> str:
        """Which number was not finite; "" for a step that was not skipped."""
        if not self.skipped:
            return ""
        for name, term in self.terms.items():
            if not torch.isfinite(term):
                return f"the loss {name} is {float(term)}"
        if torch.isfinite(self.gradient_norm):
            return "another process's loss is not finite"
        return f"the gradient norm is {float(self.gradient_norm)}"


def train_step(
    task: Task,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    precision: Precision,
    ranks: Ranks = SINGLE_PROCESS,
    *,
    position: float | None = None,
) -> Step:
    """Update the task by one batch; skip the step where the loss or the gradient is not finite.

    ``position``: that of the step on the schedule (see Timeline), by default its number.

    A skipped step leaves no trace in the state. All ranks take the step, or all skip it. Raises
    DoesNotFit, before any update, where the batch does not fit into memory.

    >>> from coview.methods import simclr
    >>> from coview.testing.methods import make_batch, make_learner
    >>> learner, batch = make_learner(simclr(8)), make_batch(simclr(8))
    >>> optimizer = torch.optim.SGD(learner.parameters())
    >>> train_step(learner, batch, optimizer, 0.1, Precision(torch.device("cpu"), "fp32")).skipped
    False
    """
    for group in optimizer.param_groups:
        group["lr"] = min(learning_rate, group.get("highest_rate", math.inf))
    try:
        with memory_errors(batch.global_size, precision.device, ranks):
            terms, norm = gradients(task, precision.place(batch), optimizer, precision, ranks)
    except DoesNotFit:
        optimizer.zero_grad(set_to_none=True)
        raise
    # The only host-device sync of a step, besides the value of a learned temperature.
    finite = ranks.all(bool(torch.isfinite(total_of(terms).detach() + norm)))
    if finite:
        optimizer.step()
        task.after_step(batch.step if position is None else position)
    optimizer.zero_grad(set_to_none=True)
    detached = {name: term.detach() for name, term in terms.items()}
    return Step(skipped=not finite, terms=detached, gradient_norm=norm)


def gradients(
    task: Task, batch: Batch, optimizer: torch.optim.Optimizer, precision: Precision,
    ranks: Ranks = SINGLE_PROCESS,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """The loss terms of a batch, and the norm of the gradient, which is in ``parameter.grad``.

    The gradient is that of the global batch: the mean over the ranks.
    """
    with precision.autocast():
        terms = task.loss(batch, batch.step)
    total_of(terms).backward()  # type: ignore[no-untyped-call]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    average_gradients(parameters, ranks)
    return terms, torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def total_of(terms: dict[str, Tensor]) -> Tensor:
    """The sum of the terms of a loss."""
    return torch.stack(list(terms.values())).sum()


def seed_torch(seed: int, step: int, device: torch.device) -> None:
    """Seed torch's generators (dropout, stochastic depth) by (seed, step)."""
    word = stream_seed(seed, Stream.STEP, str(step))
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        with torch.cuda.device(device):  # manual_seed is of the current device
            torch.cuda.manual_seed(word)
    elif device.type == "mps":
        torch.mps.manual_seed(word)


@contextmanager
def memory_errors(
    images: int, device: torch.device, ranks: Ranks = SINGLE_PROCESS
) -> Iterator[None]:
    """Turn an out-of-memory error of a batch of ``images`` into DoesNotFit.

    One of several processes cannot repeat a step in parts, as one alone does: its message names
    first what leaves the loss that of the whole batch. One of several runs beside each other may
    fit alone.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        cause = memory_cause(error)
        if cause is None:
            raise
        parts = (
            "" if ranks.is_single
            else "set `activation_checkpointing`, which is exact, or a smaller `micro_batch`, "
            "which leaves the loss that of the whole batch; else "
        )  # fmt: skip
        runs = runs_here()
        beside = "" if runs == 1 else f", which {runs} runs share (`jobs`)"
        fewer = "" if runs == 1 else "start fewer of them side by side; else "
        raise DoesNotFit(
            f"A batch of {images} images does not fit into the memory of {device}{beside}{cause}; "
            f"{fewer}{parts}set `batch_size` to {max(2, images // 2)}, or use smaller images or a "
            "smaller encoder."
        ) from error


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its mean over the ranks, the same bits on all.

    A missing gradient counts as 0; one that is missing on every rank stays missing. One all-reduce
    for each 32 MiB.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> weight.sum().backward()
    >>> average_gradients([weight], SINGLE_PROCESS)
    >>> weight.grad
    tensor([1., 1.])
    """
    if ranks.is_single:
        return
    parameters = list(parameters)
    present = ranks.any_each([parameter.grad is not None for parameter in parameters])
    for parameter, somewhere in zip(parameters, present, strict=True):
        if somewhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat, group=ranks.group)
        parts = torch.split(flat.div_(ranks.world), [gradient.numel() for gradient in bucket])
        means = [mean.view(g.shape) for mean, g in zip(parts, bucket, strict=True)]
        torch._foreach_copy_(bucket, means)


def buckets(tensors: Iterable[Tensor], limit: int = BUCKET) -> Iterator[list[Tensor]]:
    """The tensors in order, grouped by dtype: up to ``limit`` bytes, or one tensor, a bucket."""
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
