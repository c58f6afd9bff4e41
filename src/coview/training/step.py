"""One training step: loss, gradients, one question to the device, and only then movement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.rng import Stream, stream_seed
from coview.training.distribution import average_gradients
from coview.training.precision import Precision
from coview.training.task import Task


class DoesNotFit(InvalidValue):
    """A batch is too large for the memory of its device."""


ALLOCATOR_SAYS = ("not enough memory", "can't allocate memory")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What one step came to. ``terms`` and ``gradient_norm`` are scalars, still on the device.

    ``terms`` are this rank's share.
    """

    accepted: bool
    terms: dict[str, Tensor]
    gradient_norm: Tensor

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return float(total_of(self.terms))

    @property
    def fault(self) -> str:
        """Which number was not finite, as a ledger entry."""
        if self.accepted:
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
) -> Step:
    """Move the task by one batch, or leave it bit for bit as it is where a number is not finite.

    Of several ranks all take the step or none. Raises DoesNotFit where the batch does not fit into
    memory; the task is unmoved then, too.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    try:
        with memory_sentence(batch.global_size, precision.device):
            terms, norm = gradients(task, precision.place(batch), optimizer, precision, ranks)
    except DoesNotFit:
        optimizer.zero_grad(set_to_none=True)
        raise
    # The step's only wait for the device, but for the value of a temperature that is learned.
    accepted = ranks.all(bool(torch.isfinite(total_of(terms).detach() + norm)))
    if accepted:
        optimizer.step()
        task.after_step(batch.step)
    optimizer.zero_grad(set_to_none=True)
    detached = {name: term.detach() for name, term in terms.items()}
    return Step(accepted=accepted, terms=detached, gradient_norm=norm)


def gradients(
    task: Task,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    ranks: Ranks = SINGLE_PROCESS,
) -> tuple[dict[str, Tensor], Tensor]:
    """The loss terms of a batch, and the norm of the gradient that is now in the parameters.

    The gradient is that of the whole batch: the mean over the ranks.
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
    """Make torch's own generators (dropout, stochastic depth) a function of (seed, step)."""
    word = stream_seed(seed, Stream.STEP, str(step))
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        torch.cuda.manual_seed(word)


@contextmanager
def memory_sentence(images: int, device: torch.device) -> Iterator[None]:
    """Turn the allocator's refusal into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        refused = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not refused and not any(words in str(error) for words in ALLOCATOR_SAYS):
            raise
        raise DoesNotFit(
            f"A batch of {images} images does not fit into the memory of {device}; "
            f"give --batch {max(2, images // 2)}, smaller images, or a smaller encoder."
        ) from error
