"""From the views' embeddings to unit rows; what all set objectives do first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

ZERO = 1e-12


def unit_rows(views: Sequence[Tensor], *, may_be_empty: bool = False) -> Tensor:
    """All views below each other with rows of length 1, in float32 (float64 stays float64).

    Shapes: views V x [B, D] of any floating type -> [V * B, D], view-major: row v * B + b is view
    v of image b. Raises InvalidValue for other shapes or types, and for B = 0 unless it may be
    (one rank of several may have no image). For the rows see :func:`normalized`.
    """
    _check(views, may_be_empty)
    kind = working_type(*views)
    return normalized(torch.cat([view.to(kind) for view in views]))


def working_type(*tensors: Tensor) -> torch.dtype:
    """float64 where any of them is, float32 otherwise."""
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def normalized(rows: Tensor) -> Tensor:
    """The rows divided by their length.

    Shapes: [M, D] -> [M, D], float32 or float64. A row without an entry above 1e-12 counts as
    zero: it stays near zero, and its gradient is finite. NaN stays NaN.
    """
    size = rows.detach().abs().amax(dim=1, keepdim=True)
    # Direction does not depend on size. Dividing by the largest entry first keeps the squares in
    # range and puts the norm at 1 or above for every row but the zero ones, which the clamp spares.
    rows = rows / torch.where(size < ZERO, torch.ones_like(size), size)
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norm.clamp_min(1)


def check_two_views(views: Sequence[Tensor], objective: str) -> None:
    """Raises InvalidValue unless there are at least two views to compare."""
    if len(views) < 2:
        raise InvalidValue(
            f"{objective} compares views of one image; it needs at least two, got {len(views)}."
        )


def check_rows(rows: Tensor, name: str, shape: tuple[int | None, int | None]) -> None:
    """Raises InvalidValue unless ``rows`` are floating [count, width]; None allows any number."""
    wrong = rows.ndim != 2 or any(
        want is not None and have != want for have, want in zip(rows.shape, shape, strict=True)
    )
    if wrong:
        wanted = ", ".join(
            free if want is None else str(want)
            for free, want in zip(("rows", "width"), shape, strict=True)
        )
        raise InvalidValue(f"The {name} has shape {tuple(rows.shape)}; expected [{wanted}].")
    if not rows.is_floating_point():
        raise InvalidValue(f"The {name} holds {rows.dtype}; embeddings are floating numbers.")


def _check(views: Sequence[Tensor], may_be_empty: bool) -> None:
    if not isinstance(views, (list, tuple)) or len(views) == 0:
        raise InvalidValue(
            "The objective takes a list of views, one tensor [images, width] for each: [z1, z2]."
        )
    for view in views:
        empty = view.ndim == 2 and (view.shape[1] == 0 or (len(view) == 0 and not may_be_empty))
        if view.ndim != 2 or view.shape != views[0].shape or empty:
            shapes = ", ".join(str(tuple(v.shape)) for v in views)
            raise InvalidValue(
                f"The views have shapes {shapes}; every view must be [images, width], "
                "all of one shape and not empty."
            )
        if not view.is_floating_point():
            raise InvalidValue(f"The views hold {view.dtype}; embeddings are floating numbers.")
