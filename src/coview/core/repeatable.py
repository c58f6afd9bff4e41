"""Arithmetic that a GPU repeats: float32 is float32, and the same input gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Inside, a CUDA ``device`` computes as a CPU does: with all bits of float32, and repeatably.

    By default torch computes the convolutions of float32 in TF32, with 10 bits of the mantissa,
    and cuDNN takes the fastest algorithm, of which some add in any order. Here they are those of
    ``torch.use_deterministic_algorithms``. An operation that has none is computed all the same, and
    torch warns of it, once. Nothing changes for another device. The settings are of the whole
    process and come back afterwards; an own strict setting of deterministic algorithms stays.

    >>> with repeatable(torch.device("cuda")):
    ...     torch.are_deterministic_algorithms_enabled()
    True
    >>> torch.are_deterministic_algorithms_enabled()
    False
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    convolution, product = cudnn.conv, torch.backends.cuda.matmul
    precisions = convolution.fp32_precision, product.fp32_precision
    algorithms = cudnn.benchmark, cudnn.deterministic
    was_on = torch.are_deterministic_algorithms_enabled()
    was_lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    try:
        convolution.fp32_precision = product.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        if not was_on:
            torch.use_deterministic_algorithms(True, warn_only=True)
            memory.fill_uninitialized_memory = False  # which is for debugging, and costs time
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=was_lenient)
        memory.fill_uninitialized_memory = filled
        cudnn.benchmark, cudnn.deterministic = algorithms
        convolution.fp32_precision, product.fp32_precision = precisions


@contextmanager
def any_algorithm(device: torch.device) -> Iterator[None]:
    """Inside, operations of a CUDA ``device`` need not be repeatable, within :func:`repeatable`.

    cuDNN's still are. An own strict setting of deterministic algorithms stays.

    >>> with repeatable(torch.device("cuda")), any_algorithm(torch.device("cuda")):
    ...     torch.are_deterministic_algorithms_enabled()
    False
    """
    if device.type != "cuda" or not torch.is_deterministic_algorithms_warn_only_enabled():
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=True)
