"""From the views' embeddings to unit rows; what all set objectives do first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

ZERO = 1e-12


def unit_rows(views: Sequence[Tensor]) -> Tensor:
    """All views below each other with rows of length 1, in float32 (float64 stays float64).

    Shapes: views V x [B, D] of any floating type -> [V * B, D], view-major: row v * B + b is view
    v of image b. A row without an entry above 1e-12 counts as zero: it stays near zero, and its
    gradient is finite. NaN stays NaN. Raises InvalidValue for other shapes or types.

    A distributed caller gathers here, between the unit rows and the objective's equation.
    """
    _check(views)
    wide = any(view.dtype == torch.float64 for view in views)
    rows = torch.cat([view.to(torch.float64 if wide else torch.float32) for view in views])
    size = rows.detach().abs().amax(dim=1, keepdim=True)
    # Direction does not depend on size. Dividing by the largest entry first keeps the squares in
    # range and puts the norm at 1 or above for every row but the zero ones, which the clamp spares.
    rows = rows / torch.where(size < ZERO, torch.ones_like(size), size)
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norm.clamp_min(1)


def check_temperature(temperature: float) -> None:
    """Raises InvalidValue unless the temperature is a positive finite number."""
    if not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise InvalidValue(
            f"The temperature is {temperature!r}; it must be a positive number, such as 0.1 or 0.5."
        )


def _check(views: Sequence[Tensor]) -> None:
    if not isinstance(views, (list, tuple)) or len(views) == 0:
        raise InvalidValue(
            "The objective takes a list of views, one tensor [images, width] for each: [z1, z2]."
        )
    for view in views:
        if view.ndim != 2 or view.shape != views[0].shape or 0 in view.shape:
            shapes = ", ".join(str(tuple(v.shape)) for v in views)
            raise InvalidValue(
                f"The views have shapes {shapes}; every view must be [images, width], "
                "all of one shape and not empty."
            )
        if not view.is_floating_point():
            raise InvalidValue(f"The views hold {view.dtype}; embeddings are floating numbers.")
