"""Optimizers as values: which rule, how fast, and for which parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from coview.core.errors import InvalidValue, UnknownName
from coview.training.groups import split
from coview.training.lars import LARS

NAMES = ("adamw", "lars", "sgd")
SCALINGS = ("linear", "none", "sqrt")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """An optimizer of the parameters that require a gradient.

    name: "sgd" (with L2 decay in the gradient), "adamw" (decoupled decay, second moment 0.999,
    epsilon 1e-8) or "lars" (official SimCLR's, eta 0.001).
    learning_rate > 0 is the peak of the schedule at batch size 256 ("linear": times B / 256), at
    batch size 1 ("sqrt": times the root of B), or at every batch size ("none").
    momentum in [0, 1): of the velocity, for adamw of the first moment. nesterov: sgd only.
    exclude: what has neither weight decay nor LARS's adaptation, see ``groups.split``.
    Raises InvalidValue or UnknownName.
    """

    name: Literal["sgd", "adamw", "lars"]
    learning_rate: float
    scaling: Literal["none", "linear", "sqrt"] = "linear"
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    exclude: tuple[str, ...] = ("bias", "norm")

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UnknownName("optimizer", str(self.name), NAMES)
        if self.scaling not in SCALINGS:
            raise UnknownName("learning-rate scaling", str(self.scaling), SCALINGS)
        _require("learning rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
        _require("weight decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "from 0 up")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise InvalidValue("nesterov needs the optimizer sgd with a momentum above 0.")

    def peak(self, batch_size: int) -> float:
        """The highest learning rate of a run with batches of so many images."""
        scales = {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size)}
        return self.learning_rate * scales[self.scaling]

    def groups(self, module: nn.Module) -> dict[str, tuple[str, ...]]:
        """Parameter names by group, for the record of a run: "decayed" and "excluded"."""
        found = split(module, self.exclude)
        return {"decayed": found.decayed, "excluded": found.excluded}

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer; its learning rate is 0 until one is set for the step."""
        parameters = dict(module.named_parameters())
        found = split(module, self.exclude)
        decayed: dict[str, Any] = {"params": [parameters[name] for name in found.decayed]}
        excluded: dict[str, Any] = {
            "params": [parameters[name] for name in found.excluded], "weight_decay": 0.0,
        }  # fmt: skip
        if self.name == "lars":
            groups = [decayed, excluded | {"adapt": False}]
            return LARS(groups, lr=0.0, momentum=self.momentum, weight_decay=self.weight_decay)
        if self.name == "adamw":
            return torch.optim.AdamW(
                [decayed, excluded], lr=0.0, betas=(self.momentum, 0.999),
                weight_decay=self.weight_decay, fused=True,
            )  # fmt: skip
        return torch.optim.SGD(
            [decayed, excluded], lr=0.0, momentum=self.momentum, nesterov=self.nesterov,
            weight_decay=self.weight_decay, fused=True,
        )  # fmt: skip


def _require(what: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidValue(f"The {what} is {value}; expected a number {expected}.")
