"""What a contrastive loss amounts to when nothing is learned, and when all is."""

from __future__ import annotations

import math

from coview.core.errors import InvalidValue


def chance(rows: int) -> float:
    """The NT-Xent or SupCon loss of equal embeddings: ln(rows - 1), at every temperature.

    ``rows`` = views * images of one batch, at least 2. Raises InvalidValue below.
    """
    if rows < 2:
        raise InvalidValue(f"A contrastive batch has at least 2 rows, not {rows}.")
    return math.log(rows - 1)


def practical_floor(rows: int, width: int, temperature: float) -> float:
    """About the lowest NT-Xent loss in practice: both views equal, images spread at random.

    ln(1 + (C - 1) exp(-1/tau + 1/(2 D tau^2))), C = rows - 1 candidates, D = width; it rests on a
    second-order expansion and is never above ``chance``. For two views and no labels only.
    """
    chance(rows)
    spread = -1 / temperature + 1 / (2 * width * temperature**2)
    return math.log1p((rows - 2) * math.exp(min(spread, 0.0)))
