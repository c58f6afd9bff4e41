"""Evaluation mode for a while, with arithmetic that a GPU repeats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from coview.core.repeatable import repeatable


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Put ``modules`` into evaluation mode; restore the mode of every submodule afterwards.

    Inside, a GPU that holds them computes as in training (see :mod:`coview.core.repeatable`), so
    that figures before, during and after a run are of one arithmetic.

    >>> dropout = nn.Dropout()
    >>> with eval_mode(dropout):
    ...     dropout.training
    False
    >>> dropout.training
    True
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    devices = {p.device.type: p.device for module in modules for p in module.parameters()}
    try:
        with repeatable(devices["cuda"]) if "cuda" in devices else nullcontext():
            yield
    finally:
        for part, training in modes:
            part.training = training
