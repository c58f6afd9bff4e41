"""Over which rows BatchNorm takes its statistics: a choice that changes what is learned.

``set_batch_norm`` makes the choice for every BatchNorm layer of a network, ours or another
library's. It changes ``layer.__class__`` in place; parameters, buffers and names stay.

Sources: Ioffe and Szegedy, "Batch normalization" (2015), for the statistics; Chan, Golub and
LeVeque, "Updating formulae ..." (1979), equation 2.1, for those of a union of parts; He et al.,
"Momentum contrast" (2020), section 3.3, on why it matters which images share statistics.
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

TORCH_FORWARD = _BatchNorm.forward


@dataclass(frozen=True, slots=True, kw_only=True)
class NormMode:
    """Which rows share statistics; the fields are the arguments of :func:`set_batch_norm`."""

    ranks: Ranks = SINGLE_PROCESS
    ghost_batch_size: int | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.ghost_batch_size is not None and self.ghost_batch_size < 2:
            raise InvalidValue(
                f"`ghost_batch_size` is {self.ghost_batch_size}; BatchNorm needs at least 2 images."
            )

    @property
    def is_default(self) -> bool:
        return self.ranks.is_single and self.ghost_batch_size is None and not self.frozen


def set_batch_norm(
    module: nn.Module,
    *,
    ranks: Ranks = SINGLE_PROCESS,
    ghost_batch_size: int | None = None,
    frozen: bool = False,
) -> None:
    """Choose over which rows the BatchNorm layers of ``module`` take statistics in training mode.

    ranks: without ghost batches, the statistics are those of all ranks' rows together
    (synchronized), and so are gradients and running statistics; batch sizes may differ by rank.
    ghost_batch_size: consecutive groups of about this many rows of each rank's batch have their
    own statistics; groups are of nearly equal size if the batch is no multiple. The running
    statistics move once, towards the mean over all groups of the groups' means and unbiased
    variances. frozen: training uses the running statistics, too, and does not move them.

    The default is torch's own layer. Only the forward pass in training mode changes.
    Raises InvalidValue for a ghost batch below 2, or for a layer of another library whose forward
    pass is unknown.

    >>> network = nn.Sequential(nn.BatchNorm1d(3))
    >>> set_batch_norm(network, ghost_batch_size=2)
    >>> network(torch.tensor([[1.0], [3.0], [5.0], [5.0]]).expand(4, 3))[:, 0].detach().round()
    tensor([-1.,  1.,  0.,  0.])
    """
    mode = NormMode(ranks=ranks, ghost_batch_size=ghost_batch_size, frozen=frozen)
    layers = {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm)}
    if not mode.is_default:
        for name, layer in layers.items():
            check_layer(layer, name)
    for layer in layers.values():
        set_mode(layer, mode)


def set_mode(layer: Any, mode: NormMode) -> None:
    """Give a BatchNorm layer the forward pass of ``mode`` by changing the object's class."""
    if isinstance(layer, PatchedBatchNorm):
        layer.__class__ = layer.original_class  # type: ignore[assignment]
        del layer.mode
    if not mode.is_default:
        original: Any = type(layer)
        layer.__class__ = patched_class(original)
        layer.mode = mode


class RunningStatsGuard(AbstractContextManager[None]):
    """Inside, BatchNorm layers compute as usual, but their running statistics do not change.

    For the second pass of activation checkpointing. Can be entered several times, once for each
    backward pass.
    """

    def __init__(self, layers: Sequence[_BatchNorm]) -> None:
        self.layers = layers
        self._saved: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        # Copies, not None: autograd must save the same number of tensors as in the first pass.
        self._saved = [dict(layer._buffers) for layer in self.layers]
        for layer, buffers in zip(self.layers, self._saved, strict=True):
            layer._buffers.update({n: b if b is None else b.clone() for n, b in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for layer, buffers in zip(self.layers, self._saved, strict=True):
            layer._buffers.update(buffers)


def batch_norms(*modules: nn.Module | None) -> list[_BatchNorm]:
    """The BatchNorm layers of the modules that are not None."""
    return [
        layer
        for module in modules
        if module is not None
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
    ]


class PatchedBatchNorm(_BatchNorm):
    """A BatchNorm layer under a mode; ``original_class`` is the class that it had."""

    mode: NormMode
    original_class: type[_BatchNorm]

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        y = normalize_training(self, input) if self.training else normalize_eval(self, input)
        for name in ("drop", "act"):  # timm's layers that normalize and activate in one
            y = getattr(self, name)(y) if hasattr(self, name) else y
        return y


@cache
def patched_class(original: Any) -> type[PatchedBatchNorm]:
    """The patched subclass of the class ``original``, under the same name."""
    return type(original.__name__, (PatchedBatchNorm, original), {"original_class": original})


def check_layer(layer: _BatchNorm, name: str) -> None:
    """Raise InvalidValue unless the layer does what torch's does, or timm's with an activation."""
    kind = layer.original_class if isinstance(layer, PatchedBatchNorm) else type(layer)
    activates = hasattr(layer, "drop") and hasattr(layer, "act")
    if isinstance(layer, nn.SyncBatchNorm) or not (kind.forward is TORCH_FORWARD or activates):
        raise InvalidValue(
            f"The layer {name or 'itself'} is a {kind.__name__}, whose statistics cannot be "
            "grouped; choose a network with torch's own BatchNorm layers."
        )


def normalize_eval(layer: _BatchNorm, x: Tensor) -> Tensor:
    """x [B, C, ...] by the running statistics, or by the batch's if the layer has none."""
    return F.batch_norm(
        x, layer.running_mean, layer.running_var, layer.weight, layer.bias,
        layer.running_mean is None, 0.0, layer.eps,
    )  # fmt: skip


def normalize_training(layer: PatchedBatchNorm, x: Tensor) -> Tensor:
    """x [B, C, ...] normalized in training mode; updates the running statistics."""
    mode = layer.mode
    if mode.frozen:
        if layer.running_mean is None:
            raise InvalidValue("A BatchNorm layer without running statistics cannot be frozen.")
        return normalize_eval(layer, x)
    if mode.ghost_batch_size is None:  # several processes, or the layer would be torch's own
        y: Tensor
        y, mean, variance = _SyncBatchNorm.apply(x, layer.weight, layer.bias, mode.ranks, layer.eps)
    else:
        groups = ghost_groups(len(x), mode.ghost_batch_size)
        y, mean, variance = ghost_batch_norm(layer, x, groups)
        if tracks_statistics(layer):
            mean, variance = mode.ranks.mean(torch.stack((mean, variance))).unbind()
    if tracks_statistics(layer):
        update_running_statistics(layer, mean, variance)
    return y


def ghost_groups(images: int, ghost_batch_size: int) -> int:
    """How many groups of about ``ghost_batch_size`` a pass of so many images has.

    >>> [ghost_groups(images, 32) for images in (32, 47, 48, 256)]
    [1, 1, 2, 8]
    """
    return max(1, min(round(images / ghost_batch_size), images // 2))


def tracks_statistics(layer: _BatchNorm) -> bool:
    """Whether a pass in training mode updates running statistics."""
    return layer.track_running_stats and layer.running_mean is not None


@torch.no_grad()
def update_running_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """One update of the running statistics, by torch's formula."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
    layer.running_var.lerp_(variance.to(layer.running_var), momentum)


def ghost_batch_norm(layer: _BatchNorm, x: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """x normalized in ``groups``; mean over the groups of mean and unbiased variance, [C] each."""
    statistics = torch.zeros(
        groups, 2, x.shape[1], dtype=statistics_dtype(x.dtype), device=x.device
    )  # with a momentum of 1 torch writes the group's own statistics into these
    parts = [
        F.batch_norm(part, mean, variance, layer.weight, layer.bias, True, 1.0, layer.eps)
        for part, (mean, variance) in zip(x.tensor_split(groups), statistics, strict=True)
    ]
    mean, variance = statistics.mean(0)
    return torch.cat(parts), mean, variance


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which statistics of numbers of type ``dtype`` are computed."""
    return torch.promote_types(dtype, torch.float32)


class _SyncBatchNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) weight + bias with the mean and variance of all ranks' rows.

    With N values per channel over all ranks, u = (x - mean) / sqrt(var + eps) and g = dL/dy:

        dL/dx = weight / sqrt(var + eps) (g - sum(g) / N - u sum(g u) / N)

    Both sums go over all ranks; each rank adds the gradient of its loss in its own rows (see
    :mod:`coview.core.ranks`). One exchange in each direction.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, ranks: Ranks, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = x.to(statistics_dtype(x.dtype))
        count, mean, squares = merge_statistics(*local_statistics(rows), ranks)
        # The first test needs no sync with the device, and is nearly always false.
        if x.numel() < 2 * x.shape[1] and count < 2:
            raise InvalidValue(
                "BatchNorm needs at least 2 values of each channel over all processes to train on; "
                f"got {int(count)}: give a larger batch."
            )
        scale = torch.rsqrt(squares / count + eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.ranks, ctx.count = ranks, count
        factor = scale if weight is None else scale * weight
        y = (rows - expand(mean, x)).mul_(expand(factor, x))
        if bias is not None:
            y.add_(expand(bias, x))
        variance = squares / (count - 1)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, upstream: Tensor, *unused: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        g = upstream.to(statistics_dtype(x.dtype))
        u = (x.to(g.dtype) - expand(mean, x)).mul_(expand(scale, x))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        sums = torch.stack((g.sum(axes), (g * u).sum(axes)))
        grad_bias, grad_weight = sums.unbind()
        mean_g, mean_gu = (ctx.ranks.all_reduce_sum(sums) / ctx.count).unbind()
        factor = scale if weight is None else scale * weight
        grad_x = (g - expand(mean_g, x)).sub_(u.mul_(expand(mean_gu, x))).mul_(expand(factor, x))
        return (
            grad_x.to(x.dtype), grad_weight.to(weight.dtype) if ctx.needs_input_grad[1] else None,
            grad_bias.to(grad_bias.dtype) if ctx.needs_input_grad[2] else None, None, None,
        )  # fmt: skip


def local_statistics(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Values per channel of rows [B, C, ...], their mean [C] and squared deviations' sum [C]."""
    axes = [axis for axis in range(rows.ndim) if axis != 1]
    count = rows.numel() // max(rows.shape[1], 1)
    mean = rows.sum(axes) / max(count, 1)
    return count, mean, (rows - expand(mean, rows)).square_().sum(axes)


def merge_statistics(
    count: int, mean: Tensor, squares: Tensor, ranks: Ranks
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations of all ranks' values together.

    With n_r, m_r, s_r of rank r:  N = sum n_r;  m = sum n_r m_r / N;
    s = sum s_r + sum n_r (m_r - m)^2. Unlike E[x^2] - E[x]^2 it loses no digits. Scalar, [C], [C].
    """
    counts = mean.new_full((1,), count, dtype=torch.float64)
    own = torch.cat((counts, mean.double(), squares.double()))
    parts = ranks.gather(own[None], (1,) * ranks.world)
    n = parts[:, :1]
    means, deviations = parts[:, 1:].chunk(2, dim=1)
    total = n.sum()
    center = (n * means).sum(0) / total.clamp_min(1)
    spread = deviations.sum(0) + (n * (means - center).square()).sum(0)
    return total.to(mean.dtype), center.to(mean.dtype), spread.to(mean.dtype)


def expand(channels: Tensor, x: Tensor) -> Tensor:
    """[C] as [1, C, 1, ...], to broadcast over x [B, C, ...]."""
    return channels.view(1, -1, *(1,) * (x.ndim - 2))
