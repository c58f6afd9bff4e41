"""Over which rows BatchNorm takes its statistics: a choice that changes what is learned.

``set_batch_norm`` makes the choice for every BatchNorm layer of a network, ours or another
library's. The layers stay the objects that they are, with their parameters, buffers and
names; only what their forward pass does is exchanged.

Sources: Ioffe and Szegedy, "Batch normalization" (2015), for the statistics; Chan, Golub and
LeVeque, "Updating formulae ..." (1979), equation 2.1, for those of a union of parts; He et al.,
"Momentum contrast" (2020), section 3.3, on why it matters who shares statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks

PLAIN = _BatchNorm.forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Which rows share statistics; the meaning is that of :func:`set_batch_norm`."""

    ranks: Ranks = SINGLE_PROCESS
    group: int | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.group is not None and self.group < 2:
            raise InvalidValue(f"BatchNorm has groups of {self.group} rows; expected at least 2.")

    @property
    def plain(self) -> bool:
        """Whether this is what torch's own layer does."""
        return self.ranks.is_single and self.group is None and not self.frozen

    @property
    def synchronized(self) -> bool:
        """Whether the statistics span several processes."""
        return not self.ranks.is_single and self.group is None


def set_batch_norm(
    module: nn.Module,
    *,
    ranks: Ranks = SINGLE_PROCESS,
    group: int | None = None,
    frozen: bool = False,
) -> None:
    """Choose over which rows the BatchNorm layers of ``module`` take statistics while training.

    ranks: without groups the statistics are those of all ranks' rows together (synchronized),
    and so are the gradients and the running statistics; the ranks' batches may differ in size.
    group: consecutive rows of each rank's batch, about so many, have statistics of their own;
    where the batch is no multiple, groups of nearly equal size. The running statistics then move
    once, towards the mean over all groups of the groups' means and unbiased variances.
    frozen: the running statistics are used in training as well, and stay.

    The default is torch's own layer. Nothing but the forward pass in training mode changes.
    Raises InvalidValue for groups that do not fit, or for a layer of another library whose forward
    pass is not known.
    """
    grouping = Grouping(ranks=ranks, group=group, frozen=frozen)
    layers = {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm)}
    if not grouping.plain:
        for name, layer in layers.items():
            check_known(layer, name)
    for layer in layers.values():
        regroup(layer, grouping)


def regroup(layer: Any, grouping: Grouping) -> None:
    """Give a BatchNorm layer another forward pass, by giving the object another class."""
    if isinstance(layer, Grouped):
        layer.__class__ = layer.own_class  # type: ignore[assignment]
        del layer.grouping
    if not grouping.plain:
        own: Any = type(layer)
        layer.__class__ = grouped(own)
        layer.grouping = grouping


class StatisticsHeld(AbstractContextManager[None]):
    """Inside, BatchNorm layers compute as ever, but their running statistics stay as they were.

    For a pass that is made a second time, as activation checkpointing does. May be entered again,
    as often as the backward pass runs.
    """

    def __init__(self, layers: Sequence[_BatchNorm]) -> None:
        self.layers = layers
        self._kept: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        # Copies rather than none at all: what autograd saves must be as many tensors as before.
        self._kept = [dict(layer._buffers) for layer in self.layers]
        for layer, buffers in zip(self.layers, self._kept, strict=True):
            layer._buffers.update({n: b if b is None else b.clone() for n, b in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for layer, buffers in zip(self.layers, self._kept, strict=True):
            layer._buffers.update(buffers)


def batch_norms(*modules: nn.Module | None) -> list[_BatchNorm]:
    """The BatchNorm layers of the modules that there are."""
    return [
        layer
        for module in modules
        if module is not None
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
    ]


class Grouped(_BatchNorm):
    """What a BatchNorm layer becomes under a grouping; ``own_class`` is what it was."""

    grouping: Grouping
    own_class: type[_BatchNorm]

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        y = normalized(self, input) if self.training else evaluated(self, input)
        for follows in ("drop", "act"):  # timm's layers that normalize and activate in one
            y = getattr(self, follows)(y) if hasattr(self, follows) else y
        return y


@cache
def grouped(own: Any) -> type[Grouped]:
    """The class of a grouped layer that was an ``own``, and still is one."""
    return type(own.__name__, (Grouped, own), {"own_class": own})


def check_known(layer: _BatchNorm, name: str) -> None:
    """Raise InvalidValue unless the layer does what torch's does, or timm's with an activation."""
    kind = layer.own_class if isinstance(layer, Grouped) else type(layer)
    activates = hasattr(layer, "drop") and hasattr(layer, "act")
    if isinstance(layer, nn.SyncBatchNorm) or not (kind.forward is PLAIN or activates):
        raise InvalidValue(
            f"The layer {name or 'itself'} is a {kind.__name__}, whose statistics cannot be "
            "grouped; choose a network with torch's own BatchNorm layers."
        )


def evaluated(layer: _BatchNorm, x: Tensor) -> Tensor:
    """x [B, C, ...] by the running statistics, or by the batch's in a layer that has none."""
    known = layer.running_mean is not None
    return F.batch_norm(
        x,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        not known,
        0.0,
        layer.eps,
    )


def normalized(layer: Grouped, x: Tensor) -> Tensor:
    """x [B, C, ...] as training normalizes it; moves the running statistics."""
    grouping = layer.grouping
    if grouping.frozen:
        if layer.running_mean is None:
            raise InvalidValue("A BatchNorm layer without running statistics cannot be frozen.")
        return evaluated(layer, x)
    if grouping.synchronized:
        y: Tensor
        y, mean, variance = _Synchronized.apply(
            x, layer.weight, layer.bias, grouping.ranks, layer.eps
        )
    else:
        assert grouping.group is not None
        y, mean, variance = in_groups(
            layer, x, max(1, min(round(len(x) / grouping.group), len(x) // 2))
        )
        if moves(layer):
            both = grouping.ranks.mean(torch.stack((mean, variance)))
            mean, variance = both.unbind()
    if moves(layer):
        move(layer, mean, variance)
    return y


def moves(layer: _BatchNorm) -> bool:
    """Whether a pass in training mode moves the running statistics."""
    return layer.track_running_stats and layer.running_mean is not None


@torch.no_grad()
def move(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """One update of the running statistics, as torch's layer makes it."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), share)
    layer.running_var.lerp_(variance.to(layer.running_var), share)


def in_groups(layer: _BatchNorm, x: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """x normalized group by group; mean over the groups of mean and unbiased variance, [C] each."""
    statistics = torch.zeros(
        groups, 2, x.shape[1], dtype=wide(x.dtype), device=x.device
    )  # with a momentum of 1 torch writes the group's own statistics into what it is given
    parts = [
        F.batch_norm(part, mean, variance, layer.weight, layer.bias, True, 1.0, layer.eps)
        for part, (mean, variance) in zip(x.tensor_split(groups), statistics, strict=True)
    ]
    mean, variance = statistics.mean(0)
    return torch.cat(parts), mean, variance


def wide(kind: torch.dtype) -> torch.dtype:
    """The type in which statistics of numbers of ``kind`` are taken."""
    return torch.promote_types(kind, torch.float32)


class _Synchronized(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) weight + bias with the mean and variance of all ranks' rows.

    With N rows over all ranks (places included), u = (x - mean) / sqrt(var + eps) and g = dL/dy:

        dL/dx = weight / sqrt(var + eps) (g - sum(g) / N - u sum(g u) / N)

    Both sums go over all ranks, each of which adds what its loss says of its own rows (the
    convention of :mod:`coview.core.ranks`). One exchange each way.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, ranks: Ranks, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = x.to(wide(x.dtype))
        count, mean, squares = union(*own_statistics(rows), ranks)
        if (
            x.numel() < 2 * x.shape[1] and count < 2
        ):  # asked late: the device need not be waited for
            raise InvalidValue(
                "BatchNorm needs at least 2 values of each channel over all processes to train on; "
                f"got {int(count)}: give a larger batch."
            )
        scale = torch.rsqrt(squares / count + eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.ranks, ctx.count = ranks, count
        y = (rows - along(mean, x)).mul_(along(scale if weight is None else scale * weight, x))
        if bias is not None:
            y.add_(along(bias, x))
        variance = squares / (count - 1)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, upstream: Tensor, *unused: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        g = upstream.to(wide(x.dtype))
        u = (x.to(g.dtype) - along(mean, x)).mul_(along(scale, x))
        others = [axis for axis in range(x.ndim) if axis != 1]
        sums = torch.stack((g.sum(others), (g * u).sum(others)))
        of_bias, of_weight = sums.unbind()
        mean_g, mean_gu = (ctx.ranks.all_reduce_sum(sums) / ctx.count).unbind()
        factor = scale if weight is None else scale * weight
        of_x = (g - along(mean_g, x)).sub_(u.mul_(along(mean_gu, x))).mul_(along(factor, x))
        return (
            of_x.to(x.dtype),
            of_weight.to(weight.dtype) if ctx.needs_input_grad[1] else None,
            of_bias.to(of_bias.dtype) if ctx.needs_input_grad[2] else None,
            None,
            None,
        )


def own_statistics(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Of rows [B, C, ...]: values per channel, their mean and sum of squared deviations, [C]."""
    others = [axis for axis in range(rows.ndim) if axis != 1]
    count = rows.numel() // max(rows.shape[1], 1)
    mean = rows.sum(others) / max(count, 1)
    return count, mean, (rows - along(mean, rows)).square_().sum(others)


def union(count: int, mean: Tensor, squares: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations of all ranks' values together.

    With n_r, m_r, s_r of rank r:  N = sum n_r;  m = sum n_r m_r / N;
    s = sum s_r + sum n_r (m_r - m)^2. Unlike E[x^2] - E[x]^2 it loses no digits. Scalar, [C], [C].
    """
    counts = mean.new_full((1,), count, dtype=torch.float64)
    own = torch.cat((counts, mean.double(), squares.double()))
    parts = ranks.gather(own[None], (1,) * ranks.world)
    n = parts[:, :1]
    means, deviations = parts[:, 1:].chunk(2, dim=1)
    whole = n.sum()
    middle = (n * means).sum(0) / whole.clamp_min(1)
    total = deviations.sum(0) + (n * (means - middle).square()).sum(0)
    return whole.to(mean.dtype), middle.to(mean.dtype), total.to(mean.dtype)


def along(channels: Tensor, x: Tensor) -> Tensor:
    """[C] as [1, C, 1, ...], to be combined with x [B, C, ...]."""
    return channels.view(1, -1, *(1,) * (x.ndim - 2))
