"""How the views of a batch go through a network: which images share a pass, what is recomputed.

Images that share a pass share BatchNorm statistics, so the grouping belongs to the method. A
micro-batch splits the passes further and keeps only their outputs: the backward pass recomputes
the activations of each part when it needs them (Chen et al., "Training deep nets with sublinear
memory cost", 2016; for contrastive losses Gao et al., "Scaling deep contrastive learning batch
size under memory limited setup", 2021). The loss sees all outputs of the batch, so the gradient is
that of the whole batch for every objective. Only BatchNorm differs: it sees one part at a time.
Parts of view 0 are consecutive images; those of every other view are drawn for each step. Two
views of an image are then seldom normalized together, which would let the network identify the
pair. So are the groups of ghost BatchNorm, from the images of all processes where each process is
one group (He et al., "Momentum contrast", 2020, section 3.3).
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
from coview.core.ranks import Ranks
from coview.core.rng import Stream, stream_seed
from coview.core.tensors import to_device
from coview.methods.batch_norm import RunningStatsGuard, batch_norms

T = TypeVar("T")
Outputs = tuple[Tensor, ...]
Network = Callable[[Tensor], Outputs]
Part = tuple[int, Tensor | None]
"""A view index, and the rows of that view that take part; None for all rows."""

Pass = tuple[Part, ...]
"""The parts that go through the network together."""

BLOCKS = ("BasicBlock", "Bottleneck")


def drops(*modules: nn.Module | None) -> bool:
    """Whether a layer of the modules that are not None drops something at random while it trains.

    So dropout and stochastic depth do. They are known by the layer's class and a rate above 0 among
    its attributes, as torch, torchvision and timm call them; a call of
    ``torch.nn.functional.dropout`` alone is not seen.

    >>> drops(nn.Sequential(nn.Dropout(0.1))), drops(nn.Sequential(nn.Dropout(0.0)))
    (True, False)
    """
    for layer in (layer for module in modules if module is not None for layer in module.modules()):
        kind = type(layer).__name__.lower()
        names = {"p", "prob"} if "drop" in kind or "stochastic" in kind else set[str]()
        for name, rate in vars(layer).items():
            if (name in names or "drop" in name) and type(rate) is float and rate > 0:
                return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How to save memory in the forward passes.

    ``micro_batch``: images of a view per forward pass, at least 2; activations are recomputed in
    the backward pass. None: no limit, nothing is recomputed. ``activation_checkpointing``: keep
    only the input of each residual block and recompute the block in the backward pass.
    Raises InvalidValue.

    >>> Passes(micro_batch=64)
    Passes(micro_batch=64, activation_checkpointing=False)
    """

    micro_batch: int | None = None
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.micro_batch is not None and self.micro_batch < 2:
            raise InvalidValue(
                f"`micro_batch` is {self.micro_batch}; expected at least 2 images, which BatchNorm "
                "needs."
            )


FULL_BATCH = Passes()


def group_passes(
    views: Sequence[Tensor], indices: Sequence[int], *, per_view: bool, micro_batch: int | None,
    shuffle: bool, step: int, rank_sizes: Sequence[int] = (),
) -> list[list[Pass]]:  # fmt: skip
    """The passes of a step as rounds; the passes of one round update BatchNorm statistics once.

    ``per_view``: every view has its own passes; otherwise views of one size share them.
    ``micro_batch``: images of a view per pass, None for all; a few more where a pass would hold a
    single image. ``shuffle``: the images of every view except view 0 come in an order drawn for
    the step, even if one pass takes them all. ``rank_sizes``: the number of images of every
    process, so that all processes make the same number of passes.
    """
    if per_view:
        groups = [[index] for index in indices]
    else:
        sizes = dict.fromkeys(views[index].shape[-2:] for index in indices)
        groups = [[k for k in indices if views[k].shape[-2:] == size] for size in sizes]
    count = len(views[indices[0]])
    parts = count_parts(rank_sizes or (count,), micro_batch)
    return [_split_round(count, group, parts, shuffle, step) for group in groups]


def count_parts(rank_sizes: Sequence[int], micro_batch: int | None) -> int:
    """The passes of a view on every process; ``rank_sizes`` are the images of each."""
    if micro_batch is None:
        return 1
    # BatchNorm cannot take statistics of a part of one image, on any rank.
    return max(1, min(-(-max(rank_sizes) // micro_batch), min(rank_sizes) // 2))


def _split_round(
    count: int, indices: list[int], parts: int, shuffle: bool, step: int
) -> list[Pass]:
    if parts == 1 and not shuffle:
        return [tuple((index, None) for index in indices)]
    rows = {index: image_order(index, count, step).tensor_split(parts) for index in indices}
    return [tuple((index, rows[index][k]) for index in indices) for k in range(parts)]


def image_order(index: int, count: int, step: int) -> Tensor:
    """The order of view ``index`` at this step, int64 [count]: that of view 0 is kept."""
    if index == 0:
        return torch.arange(count)
    seed = stream_seed(0, Stream.STEP, f"parts {step} {index}")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def exchange_rows(rows: Tensor, order: Tensor, sizes: Sequence[int], ranks: Ranks) -> Tensor:
    """This rank's part of all ranks' rows in ``order``: [b, ...] -> [b, ...]. Differentiable.

    ``sizes`` are the rows of every rank, before and after, ``order`` [sum of the sizes] is the same
    on all. ``order.argsort()`` brings every row back.
    """
    return _select_rows(ranks.gather(rows, sizes), torch.split(order, list(sizes))[ranks.rank])


def forward_passes(
    network: Network, norms: Sequence[_BatchNorm], views: Sequence[Tensor],
    rounds: Sequence[Sequence[Pass]], *, recompute: bool,
) -> dict[int, Outputs]:  # fmt: skip
    """The outputs of every view, in the order of its images: view index -> outputs.

    ``recompute``: keep only outputs and run each pass again in the backward pass. ``norms`` are
    the BatchNorm layers of the network; a round updates their statistics once, to the mean of the
    updates of its passes.
    """
    parts: dict[int, list[tuple[Tensor | None, Outputs]]] = {}
    for passes in rounds:
        for single in average_statistics(norms, passes):
            images = torch.cat([_select_rows(views[index], rows) for index, rows in single])
            outputs = (
                recompute_in_backward(network, norms, images) if recompute else network(images)
            )
            counts = [len(views[index]) if rows is None else len(rows) for index, rows in single]
            split = zip(*(torch.split(output, counts) for output in outputs), strict=True)
            for (index, rows), part in zip(single, split, strict=True):
                parts.setdefault(index, []).append((rows, part))
    return {index: _join_parts(view_parts) for index, view_parts in parts.items()}


def _select_rows(view: Tensor, rows: Tensor | None) -> Tensor:
    return view if rows is None else view[to_device(rows, view.device)]


def _join_parts(parts: list[tuple[Tensor | None, Outputs]]) -> Outputs:
    first, outputs = parts[0]
    if first is None:
        return outputs
    order = torch.cat([rows for rows, _ in parts if rows is not None]).argsort()
    order = to_device(order, outputs[0].device)
    return tuple(
        torch.cat(pieces)[order] for pieces in zip(*(outputs for _, outputs in parts), strict=True)
    )


def recompute_in_backward(
    function: Callable[[Tensor], T], norms: Sequence[_BatchNorm], x: Tensor
) -> T:
    """``function(x)`` with its activations recomputed in the backward pass.

    ``norms`` are the function's BatchNorm layers; the second pass leaves their running statistics
    as they are.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), RunningStatsGuard(norms)

    result: T = checkpoint(function, x, use_reentrant=False, context_fn=contexts)
    return result


def average_statistics(norms: Sequence[_BatchNorm], passes: Sequence[Pass]) -> Iterator[Pass]:
    """Yield the passes one by one; then set the statistics to the mean over the passes."""
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


def checkpoint_blocks(encoder: nn.Module) -> None:
    """Switch on activation checkpointing for every residual block of ``encoder``, in place.

    The result is exact, also with BatchNorm: each block sees the same images twice, and its
    statistics move once. Costs about one more forward pass. Raises InvalidValue if the encoder has
    no blocks of a known class.
    """
    blocks = find_blocks(encoder)
    if not blocks:
        raise InvalidValue(
            f"{type(encoder).__name__} has no residual blocks to recompute; leave "
            "`activation_checkpointing` off or set `micro_batch`."
        )
    for block in blocks:
        block.forward = partial(_forward_checkpointed, block.forward, batch_norms(block))


def find_blocks(encoder: nn.Module) -> list[nn.Module]:
    """The residual blocks of our networks, torchvision's and timm's, by their class names."""
    return [module for module in encoder.modules() if type(module).__name__ in BLOCKS]


def _forward_checkpointed(
    forward: Callable[..., Tensor], norms: list[_BatchNorm], x: Tensor
) -> Tensor:
    return recompute_in_backward(forward, norms, x) if torch.is_grad_enabled() else forward(x)
