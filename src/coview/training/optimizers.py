"""Optimizers as values: rule, learning rate, weight decay, and the parameters without decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from coview.core.errors import InvalidValue, UnknownName
from coview.training.lars import LARS

NAMES = ("adamw", "lars", "sgd")
SCALINGS = ("linear", "none", "sqrt")
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """An optimizer of the parameters that require a gradient.

    name: "sgd" (with L2 decay in the gradient), "adamw" (decoupled decay, second moment 0.999,
    epsilon 1e-8) or "lars" (official SimCLR's, eta 0.001).
    learning_rate > 0 is the peak of the schedule at batch size 256 ("linear": times B / 256), at
    batch size 1 ("sqrt": times the root of B), or at every batch size ("none").
    momentum in [0, 1): of the velocity, for adamw of the first moment. nesterov: sgd only.
    exclude: parameters without weight decay and LARS adaptation. An entry is "bias" (parameters
    called bias, and vectors whose name ends in _bias), "norm" (parameters of normalization
    layers) or a pattern of whole names such as "head.*". A scalar, such as a learned temperature,
    is always excluded: weight decay would pull it towards 0. A module with a ``highest_rate``, as
    a learned temperature has one, is trained at no higher learning rate.
    Raises InvalidValue or UnknownName.

    >>> OptimizerSpec(name="lars", learning_rate=0.3).peak(4096)
    4.8
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
        _require("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
        _require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "from 0 up")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise InvalidValue("`nesterov` needs the optimizer sgd with `momentum` above 0.")

    def peak(self, batch_size: int) -> float:
        """The highest learning rate of a run with batches of ``batch_size`` images."""
        scales = {"none": 1.0, "linear": batch_size / 256, "sqrt": math.sqrt(batch_size)}
        return self.learning_rate * scales[self.scaling]

    @property
    def moments(self) -> int:
        """The tensors that it keeps of each trained parameter, of the parameter's size."""
        return 2 if self.name == "adamw" else 1

    def groups(self, module: nn.Module) -> dict[str, tuple[str, ...]]:
        """The names of the trainable parameters: {"decayed": (...), "excluded": (...)}.

        Raises InvalidValue for a pattern of ``exclude`` that matches no parameter.
        """
        kinds = dict(kinds_of(module))
        for pattern in set(self.exclude) - {"bias", "norm"}:
            if not any(fnmatchcase(name, pattern) for name in kinds):
                raise InvalidValue(
                    f"The pattern {pattern!r} in `exclude` of the optimizer matches no parameter; "
                    f"a name looks like {next(iter(kinds), '(none)')!r}."
                )
        excluded = tuple(
            name
            for name, kind in kinds.items()
            if kind & {*self.exclude, "scalar"}
            or any(fnmatchcase(name, pattern) for pattern in self.exclude)
        )
        decayed = tuple(name for name in kinds if name not in excluded)
        return {"decayed": decayed, "excluded": excluded}

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer, with learning rate 0; :func:`train_step` sets that of each step."""
        parameters = dict(module.named_parameters())
        names = self.groups(module)
        limits = {name: highest_rate(module, name) for name in parameters}
        groups: list[dict[str, Any]] = []
        for kind, options in (("decayed", {}), ("excluded", {"weight_decay": 0.0, "adapt": False})):
            for limit in sorted({math.inf, *(limits[name] for name in names[kind])}, reverse=True):
                chosen = [parameters[name] for name in names[kind] if limits[name] == limit]
                groups.append({"params": chosen, "highest_rate": limit, **options})
        if self.name == "lars":
            return LARS(groups, lr=0.0, momentum=self.momentum, weight_decay=self.weight_decay)
        if self.name == "adamw":
            return torch.optim.AdamW(
                groups, lr=0.0, betas=(self.momentum, 0.999), weight_decay=self.weight_decay,
                fused=True,
            )  # fmt: skip
        return torch.optim.SGD(
            groups, lr=0.0, momentum=self.momentum, nesterov=self.nesterov,
            weight_decay=self.weight_decay, fused=True,
        )  # fmt: skip


def _require(field: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidValue(f"`{field}` is {value}; expected a number {expected}.")


def highest_rate(module: nn.Module, name: str) -> float:
    """The bound of the learning rate of a parameter; infinite for most."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return float(getattr(owner, "highest_rate", math.inf))


def kinds_of(module: nn.Module) -> Iterator[tuple[str, set[str]]]:
    """(name, subset of {"bias", "norm", "scalar"}) of every trainable parameter."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            owner, _, attribute = name.rpartition(".")
            kinds = {
                "norm": isinstance(module.get_submodule(owner), NORMS),
                # torch's attention has an "in_proj_bias"; a vector, unlike a table of biases.
                "bias": attribute == "bias"
                or (attribute.endswith("_bias") and parameter.ndim == 1),
                "scalar": parameter.ndim == 0,
            }
            yield name, {kind for kind, holds in kinds.items() if holds}
