"""LARS as in SimCLR's released code, for all tensors of a group at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates; for each tensor w with gradient g and velocity v,

        g <- g + weight_decay w
        trust = eta |w| / |g|        (1 where either norm is 0)
        v <- momentum v + rate trust g
        w <- w - v

    The velocity contains the learning rate, as in SimCLR's code; ports that multiply by it last
    differ while the rate changes. No epsilon, no clipping. A group with ``adapt`` False has trust
    1. ``step`` does not change ``p.grad`` and does not wait for the device.

    Source: You et al., "Large batch training of convolutional networks", 2017; the order of
    operations is that of SimCLR's released ``lars_optimizer`` with classic momentum.

    >>> weight = torch.nn.Parameter(torch.ones(4))
    >>> optimizer = LARS([weight], lr=1.0)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.9990, 0.9990, 0.9990, 0.9990])
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], *, lr: float,
        momentum: float = 0.9, weight_decay: float = 0.0, eta: float = 0.001, adapt: bool = True,
    ) -> None:  # fmt: skip
        decay = {"weight_decay": weight_decay, "eta": eta, "adapt": adapt}
        super().__init__(params, {"lr": lr, "momentum": momentum, **decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Tensor] = [weight.grad for weight in weights if weight.grad is not None]
        velocities = [self._velocity(weight) for weight in weights]
        if group["weight_decay"] != 0:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        updates = torch._foreach_mul(gradients, group["lr"])
        if group["adapt"]:
            torch._foreach_mul_(updates, trust_ratios(weights, gradients, group["eta"]))
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, updates)
        torch._foreach_sub_(weights, velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        return velocity


def trust_ratios(weights: list[Tensor], gradients: list[Tensor], eta: float) -> list[Tensor]:
    """eta |w| / |g| of every tensor, 1 where either norm is 0; scalars on the device."""
    weight_norms = torch.stack(torch._foreach_norm(weights))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    both = (weight_norms > 0) & (gradient_norms > 0)
    return list(torch.where(both, eta * weight_norms / gradient_norms, 1.0).unbind())
