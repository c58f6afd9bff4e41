"""Which parameters are left out of weight decay (and of LARS's adaptation), as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from coview.core.errors import InvalidValue

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True)
class Groups:
    """The names of a network's trainable parameters, in its own order."""

    decayed: tuple[str, ...]
    excluded: tuple[str, ...]


def split(module: nn.Module, exclude: Sequence[str]) -> Groups:
    """The trainable parameters of ``module``, told apart by ``exclude``.

    An entry of ``exclude`` is a kind, "bias" (every parameter called bias) or "norm" (every
    parameter of a normalization layer), or a pattern of whole names such as "head.*". A single
    number, such as a learned temperature, is always excluded: decay would draw it somewhere.
    Raises InvalidValue for a pattern that names no parameter.
    """
    kinds = dict(kinds_of(module))
    for pattern in set(exclude) - {"bias", "norm"}:
        if not any(fnmatchcase(name, pattern) for name in kinds):
            raise InvalidValue(
                f"The pattern {pattern!r} in the optimizer's exclude names no parameter; "
                f"names look like {next(iter(kinds), '(none)')!r}."
            )
    excluded = [
        name
        for name, kind in kinds.items()
        if kind & {*exclude, "number"} or any(fnmatchcase(name, pattern) for pattern in exclude)
    ]
    return Groups(tuple(name for name in kinds if name not in excluded), tuple(excluded))


def kinds_of(module: nn.Module) -> Iterator[tuple[str, set[str]]]:
    """Every trainable parameter's name with its kinds, a subset of {"bias", "norm", "number"}."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            owner, _, own = name.rpartition(".")
            kinds = {
                "norm": isinstance(module.get_submodule(owner), NORMS),
                "bias": own == "bias",
                "number": parameter.ndim == 0,
            }
            yield name, {kind for kind, holds in kinds.items() if holds}
