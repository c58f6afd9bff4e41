"""What a contrastive loss amounts to when nothing is learned, and when all is."""

from __future__ import annotations

import math

from coview.core.errors import InvalidValue


def chance_level(rows: int) -> float:
    """The NT-Xent or SupCon loss of equal embeddings: ln(rows - 1), at every temperature.

    ``rows`` = views * images of one batch, at least 2. Raises InvalidValue below.
    """
    if rows < 2:
        raise InvalidValue(f"A contrastive batch has at least 2 rows, not {rows}.")
    return math.log(rows - 1)


def estimated_lower_bound(
    rows: int, width: int, temperature: float, *, positives: float = 1
) -> float:
    """About the lowest contrastive loss in practice: positives equal, the rest spread at random.

    ln(P + N exp(-1/tau + 1/(2 D tau^2))) for P ``positives`` and N = rows - 1 - P others of each
    row, D = width: the cosine of random unit rows has variance 1/D, and its exponential's mean is
    taken to second order. Never above ``chance_level``.
    """
    chance_level(rows)
    spread = -1 / temperature + 1 / (2 * width * temperature**2)
    return math.log(positives + (rows - 1 - positives) * math.exp(min(spread, 0.0)))
