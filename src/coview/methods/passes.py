"""How the views of a batch go through a network: which images share a pass, and what is kept.

Images that share a pass share BatchNorm's statistics, so the grouping is part of a method. A
micro-batch splits passes further and keeps nothing of them but their outputs: the backward pass
runs each part again when its gradient is due (Chen et al., "Training deep nets with sublinear
memory cost", 2016; for contrastive losses Gao et al., "Scaling deep contrastive learning batch
size under memory limited setup", 2021). The loss sees all outputs of the batch at once, so its
gradient is that of the whole batch, for every objective. Only BatchNorm is another: its statistics
are those of a part. The parts of the first view are consecutive images, those of every other view
are drawn anew each step, so that the two views of an image seldom share statistics by which they
could be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, stream_seed
from coview.methods.batch_norm import StatisticsHeld, batch_norms

T = TypeVar("T")
Outputs = tuple[Tensor, ...]
Network = Callable[[Tensor], Outputs]
Part = tuple[int, Tensor | None]
"""A slot, and the rows of its view that take part; None for all."""

Pass = tuple[Part, ...]
"""What goes through the network together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """``micro_batch``: at most so many images of a view in one pass, which is run again in the
    backward pass; None keeps passes whole. ``blocks``: each residual block is run again in the
    backward pass. Range: micro_batch >= 2. Raises InvalidValue."""

    micro_batch: int | None = None
    blocks: bool = False

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 2:
            raise InvalidValue(
                f"--micro-batch is {self.micro_batch}; expected at least 2 images, which BatchNorm "
                "needs."
            )


WHOLE = Passes()


def grouped(
    views: Sequence[Tensor],
    slots: Sequence[int],
    *,
    apart: bool,
    part: int | None,
    mixed: bool,
    step: int,
    counts: Sequence[int] = (),
) -> list[list[Pass]]:
    """The passes of a step, as rounds; the passes of one round move BatchNorm's statistics once.

    ``apart``: every view has passes of its own; otherwise views of one size share them. ``part``:
    about so many images of a view in a pass at most, None for all; more where a rank would be left
    with a pass of a single image.
    ``mixed``: the images of every view but the first come in an order drawn for the step, even
    where a pass takes them all. ``counts``: the images of every rank, where there are several, so
    that all make as many passes.
    """
    if apart:
        together = [[slot] for slot in slots]
    else:
        sizes = dict.fromkeys(views[slot].shape[-2:] for slot in slots)
        together = [[s for s in slots if views[s].shape[-2:] == size] for size in sizes]
    count = len(views[slots[0]])
    counts = counts or (count,)
    # No part of a single image on any rank, of which BatchNorm could take no statistics.
    parts = 1 if part is None else max(1, min(-(-max(counts) // part), min(counts) // 2))
    return [_round(count, shared, parts, mixed, step) for shared in together]


def _round(count: int, slots: list[int], parts: int, mixed: bool, step: int) -> list[Pass]:
    if parts == 1 and not mixed:
        return [tuple((slot, None) for slot in slots)]
    chosen = {slot: _order(slot, count, step).tensor_split(parts) for slot in slots}
    return [tuple((slot, chosen[slot][k]) for slot in slots) for k in range(parts)]


def _order(slot: int, count: int, step: int) -> Tensor:
    if slot == 0:
        return torch.arange(count)
    word = stream_seed(0, Stream.STEP, f"parts {step} {slot}")
    return torch.randperm(count, generator=torch.Generator().manual_seed(word))


def forward_passes(
    network: Network,
    norms: Sequence[_BatchNorm],
    views: Sequence[Tensor],
    rounds: Sequence[Sequence[Pass]],
    *,
    again: bool,
) -> dict[int, Outputs]:
    """The outputs of every slot in the order of its images, from all passes.

    ``again``: keep outputs alone and run each pass once more in backward. ``norms`` are the
    BatchNorm layers of the network; a round moves their statistics once, to the mean of what its
    passes would have made of them.
    """
    found: dict[int, list[tuple[Tensor | None, Outputs]]] = {}
    for passes in rounds:
        for single in averaged(norms, passes):
            images = torch.cat([_rows(views[slot], rows) for slot, rows in single])
            outputs = recompute_in_backward(network, norms, images) if again else network(images)
            counts = [len(views[slot]) if rows is None else len(rows) for slot, rows in single]
            split = zip(*(torch.split(output, counts) for output in outputs), strict=True)
            for (slot, rows), part in zip(single, split, strict=True):
                found.setdefault(slot, []).append((rows, part))
    return {slot: _in_order(parts) for slot, parts in found.items()}


def _rows(view: Tensor, rows: Tensor | None) -> Tensor:
    return view if rows is None else view[rows.to(view.device)]


def _in_order(parts: list[tuple[Tensor | None, Outputs]]) -> Outputs:
    first, outputs = parts[0]
    if first is None:
        return outputs
    places = torch.cat([rows for rows, _ in parts if rows is not None]).argsort()
    return tuple(
        torch.cat(pieces)[places.to(pieces[0].device)]
        for pieces in zip(*(outputs for _, outputs in parts), strict=True)
    )


def recompute_in_backward(
    function: Callable[[Tensor], T], norms: Sequence[_BatchNorm], x: Tensor
) -> T:
    """``function(x)``, of which only the result is kept: backward runs it a second time, in which
    ``norms``, its BatchNorm layers, leave their running statistics as they are."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), StatisticsHeld(norms)

    found: T = checkpoint(function, x, use_reentrant=False, context_fn=contexts)
    return found


def averaged(norms: Sequence[_BatchNorm], passes: Sequence[Pass]) -> Iterator[Pass]:
    """The passes one by one; afterwards the statistics have moved once, by the mean of all."""
    if len(passes) == 1:
        yield passes[0]
        return
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    mean = [torch.zeros_like(buffer) for buffer in buffers]
    for single in passes:
        yield single
        for total, buffer, start in zip(mean, buffers, before, strict=True):
            if buffer.is_floating_point():
                total.add_(buffer, alpha=1 / len(passes))
            else:
                total.copy_(buffer)
            buffer.data.copy_(start)
    for buffer, total in zip(buffers, mean, strict=True):
        buffer.data.copy_(total)


def activation_checkpointing(encoder: nn.Module) -> None:
    """Keep of each residual block its input alone and run it again in backward.

    Exact with BatchNorm over the whole batch: each block sees the same images twice, and its
    statistics move once. About one more forward pass. Raises InvalidValue where the encoder has no
    blocks that are known here.
    """
    blocks = blocks_of(encoder)
    if not blocks:
        raise InvalidValue(
            f"{type(encoder).__name__} has no residual blocks to run again; "
            "leave checkpointing at none, or give --micro-batch."
        )
    for block in blocks:
        block.forward = partial(_block_again, block.forward, batch_norms(block))


def blocks_of(encoder: nn.Module) -> list[nn.Module]:
    """The residual blocks of our networks, torchvision's and timm's, by their class names."""
    return [module for module in encoder.modules() if type(module).__name__ in BLOCKS]


BLOCKS = ("BasicBlock", "Bottleneck")


def _block_again(forward: Callable[..., Tensor], norms: list[_BatchNorm], x: Tensor) -> Tensor:
    return recompute_in_backward(forward, norms, x) if torch.is_grad_enabled() else forward(x)
