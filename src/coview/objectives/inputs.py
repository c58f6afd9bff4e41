"""The inputs of an objective: embeddings as unit rows, and a temperature; with their checks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coview.core.errors import InvalidValue

# A row whose largest entry is below this counts as zero.
ZERO = 1e-12

Temperature = float | Tensor
"""tau > 0; a tensor without dimensions may require a gradient."""


def normalize_views(views: Sequence[Tensor], *, may_be_empty: bool = False) -> Tensor:
    """Concatenate all views and scale every row to length 1, in float32 (float64 stays float64).

    Shapes: views V x [B, D] of any floating type -> [V * B, D], view-major: row v * B + b is view
    v of image b. Raises InvalidValue for other shapes or types, and for B = 0 unless
    ``may_be_empty`` (one rank of several may have no image). See :func:`normalize_rows`.
    """
    return normalize_rows(join_views(views, may_be_empty=may_be_empty))


def join_views(views: Sequence[Tensor], *, may_be_empty: bool = False) -> Tensor:
    """The same rows as they are, not scaled to length 1."""
    _check_views(views, may_be_empty)
    dtype = working_dtype(*views)
    return torch.cat([view.to(dtype) for view in views])


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any of the tensors has it, float32 otherwise."""
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def normalize_rows(rows: Tensor) -> Tensor:
    """Divide every row by its length.

    Shapes: [M, D] -> [M, D], float32 or float64. A row without an entry of at least 1e-12 counts
    as zero: it is not scaled, and its gradient is finite. NaN stays NaN.
    """
    size = rows.detach().abs().amax(dim=1, keepdim=True)
    is_zero = size < ZERO
    one = torch.ones_like(size)
    # The direction does not depend on the size. The first division keeps the squares in range.
    rows = rows / torch.where(is_zero, one, size)
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # Not clamp_min(1): the norm of a row with one dominating entry is exactly 1 here, and since
    # torch 2.14 the gradient of clamp_min at equality is 0.
    return rows / torch.where(is_zero, one, norm)


def integers(values: Any, name: str, device: torch.device) -> Tensor:
    """``values`` as int64 on ``device``: a tensor there, or a list or array of whole numbers.

    ``name`` is the argument that messages name. Raises InvalidValue for other types, and for a
    tensor on another device.
    """
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "iub":
            raise InvalidValue(f"`{name}` are {array.dtype}; expected whole numbers.")
        return torch.from_numpy(array.astype(np.int64)).to(device)
    tensor: Tensor = values
    if tensor.is_floating_point() or tensor.is_complex():
        raise InvalidValue(f"`{name}` are {tensor.dtype}; expected whole numbers.")
    if tensor.device != device:
        raise InvalidValue(
            f"`{name}` are on {tensor.device} and the embeddings on {device}; move them there."
        )
    return tensor.long()


def check_two_views(views: Sequence[Tensor], objective: str) -> None:
    """Raises InvalidValue unless there are at least two views to compare."""
    if len(views) < 2:
        raise InvalidValue(
            f"{objective} compares views of one image; `views` has {len(views)}, "
            "expected at least two."
        )


def check_rows(rows: Tensor, name: str, shape: tuple[int | None, int | None]) -> None:
    """Raises InvalidValue unless ``rows`` are floating [count, width]; None allows any number.

    ``name`` is the argument that the message names.
    """
    _check_tensor(rows, name)
    wrong = rows.ndim != 2 or any(
        expected is not None and size != expected
        for size, expected in zip(rows.shape, shape, strict=True)
    )
    if wrong:
        expected_shape = ", ".join(
            symbol if size is None else str(size)
            for symbol, size in zip(("rows", "width"), shape, strict=True)
        )
        raise InvalidValue(f"`{name}` has shape {tuple(rows.shape)}; expected [{expected_shape}].")
    if not rows.is_floating_point():
        raise InvalidValue(f"`{name}` has type {rows.dtype}; expected a floating type.")


def _check_tensor(rows: object, name: str) -> None:
    if not isinstance(rows, Tensor):
        raise InvalidValue(
            f"`{name}` holds a {type(rows).__module__}.{type(rows).__name__}; expected a tensor of "
            "torch (torch.as_tensor makes one)."
        )


def _check_views(views: Sequence[Tensor], may_be_empty: bool) -> None:
    if not isinstance(views, (list, tuple)) or len(views) == 0:
        raise InvalidValue(
            "`views` must be a list of tensors, one [images, width] for each view: [z1, z2]."
        )
    for view in views:
        _check_tensor(view, "views")
        if view.device != views[0].device:
            raise InvalidValue(
                f"`views` are on {views[0].device} and {view.device}; expected one device."
            )
        empty = view.ndim == 2 and (view.shape[1] == 0 or (len(view) == 0 and not may_be_empty))
        if view.ndim != 2 or view.shape != views[0].shape or empty:
            shapes = ", ".join(str(tuple(v.shape)) for v in views)
            raise InvalidValue(
                f"`views` have shapes {shapes}; every view must be [images, width], "
                "all of one shape and not empty."
            )
        if not view.is_floating_point():
            raise InvalidValue(f"`views` have type {view.dtype}; expected a floating type.")


def checked_temperature(temperature: Temperature) -> Temperature:
    """The temperature: a floating tensor as it is, a number of any library as Python's.

    Raises InvalidValue unless it is a positive finite number.
    """
    number = real_number(temperature)
    if not 0 < number < math.inf:
        raise InvalidValue(
            f"`temperature` is {temperature!r}; expected a positive number such as 0.1 or 0.5, "
            "or a tensor without dimensions that holds one."
        )
    is_tensor = isinstance(temperature, Tensor) and temperature.is_floating_point()
    return temperature if is_tensor else number


def real_number(value: Any) -> float:
    """A real number of Python, numpy or torch, perhaps in 0 dimensions; NaN for anything else."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def as_number(temperature: Temperature) -> float:
    """The value of a temperature, detached. A tensor on a GPU makes the host wait."""
    return float(temperature.detach() if isinstance(temperature, Tensor) else temperature)
