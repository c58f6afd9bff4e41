"""The table between drawing and rendering: one row of numbers a view.

Views of the fused kernel's operations have rows of ROW. A view with an operation beyond them has
the wider STAGED_ROW, which begins with the same fields.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.views.operations import MOST_OPERATIONS

Table = npt.NDArray[np.void]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

FUSED_ROW = np.dtype(
    [
        ("top", np.int32),
        ("left", np.int32),
        ("height", np.int32),
        ("width", np.int32),
        ("flip", np.int32),
        ("order", np.int32, (4,)),
        ("factor", np.float32, (4,)),
        ("gray", np.int32),
        ("sigma", np.float32),
        ("solarize", np.int32),
    ]
)
"""One view. The crop in source pixels; ``order`` lists the jitter's operations (-1: none) and
``factor`` is indexed by operation (brightness, contrast, saturation, hue in turns); sigma in
pixels of the view, 0 without blur; flip, gray and solarize are 0 or 1."""

BOX = ("top", "left", "height", "width")
"""The fields of the crop."""

FULL_ROW = np.dtype(
    [
        *FUSED_ROW.descr,
        ("operation", np.int32, (MOST_OPERATIONS,)),
        ("magnitude", np.float32, (MOST_OPERATIONS,)),
        ("turns", np.int32),
        ("sobel", np.int32),
        ("noise", np.float32),
        ("noise_key", np.uint32, (2,)),
        ("cut_top", np.int32),
        ("cut_left", np.int32),
        ("cut_height", np.int32),
        ("cut_width", np.int32),
    ]
)
"""A view with more operations. ``operation`` lists places in auto_augment.OPERATIONS (0: none),
each with its signed magnitude; ``turns`` counts quarters of a circle, sobel is 0 or 1; ``noise``
is sigma in values, 0 without, and ``noise_key`` its Philox key; the erased rectangle is in pixels
of the view, its height 0 without."""


def check_rows(table: Table, count: int, *, multi_pass: bool) -> None:
    """Raise InvalidValue unless ``table`` has ``count`` rows of the kind that the view needs."""
    fits = table.dtype == FULL_ROW if multi_pass else table.dtype in (FUSED_ROW, FULL_ROW)
    if not fits or len(table) != count:
        raise InvalidValue(
            f"render got {len(table)} drawn rows for {count} images, or rows of another view; "
            "give the table that draw made for them and this view."
        )


def fused_part(table: Table) -> Table:
    """The fields of ROW, as a table of its own."""
    part = np.zeros(len(table), FUSED_ROW)
    for name in FUSED_ROW.names or ():
        part[name] = table[name]
    return part
