"""The augmentation parameters between sampling and rendering: one row of numbers per view.

A view whose operations the fused kernel has takes rows of FUSED_ROW. Any other view takes rows of
FULL_ROW, which begin with the same fields.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.views.operations import MAX_RAND_AUGMENT_OPERATIONS

ViewParams = npt.NDArray[np.void]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)

FUSED_ROW = np.dtype(
    [
        ("top", np.int32), ("left", np.int32), ("height", np.int32), ("width", np.int32),
        ("flip", np.int32), ("order", np.int32, (4,)), ("factor", np.float32, (4,)),
        ("grayscale", np.int32), ("sigma", np.float32), ("solarize", np.int32),
    ]
)  # fmt: skip
"""One view. The crop is in source pixels. ``order`` lists the jitter's operations (-1: none) and
``factor`` is indexed by operation: brightness, contrast, saturation, and hue as a share of the
full circle. ``sigma`` is in pixels of the view, 0 without blur. ``flip``, ``grayscale`` and
``solarize`` are 0 or 1."""

BOX = ("top", "left", "height", "width")
"""The fields of the crop."""

FULL_ROW = np.dtype(
    [
        *FUSED_ROW.descr, ("operation", np.int32, (MAX_RAND_AUGMENT_OPERATIONS,)),
        ("magnitude", np.float32, (MAX_RAND_AUGMENT_OPERATIONS,)), ("rotate90", np.int32),
        ("sobel", np.int32), ("noise", np.float32), ("noise_key", np.uint32, (2,)),
        ("cut_top", np.int32), ("cut_left", np.int32), ("cut_height", np.int32),
        ("cut_width", np.int32), ("inner", np.int32, (4,)),
    ]
)  # fmt: skip
"""One view with further operations. ``operation`` lists indices in auto_augment.OPERATIONS (0:
none), each with its signed ``magnitude``. ``rotate90`` counts quarter turns; ``sobel`` is 0 or 1.
``noise`` is sigma in units of the view's values, 0 without noise, and ``noise_key`` its Philox
key. The erased rectangle is in pixels of the view; its height is 0 without cutout. ``inner`` is the
second crop of an ordered view, in pixels of the view: top, left, height, width; 0 without one."""


def check_rows(params: ViewParams, count: int, *, multi_pass: bool) -> None:
    """Raise InvalidValue unless ``params`` has ``count`` rows of the kind that the view needs."""
    fits = params.dtype == FULL_ROW if multi_pass else params.dtype in (FUSED_ROW, FULL_ROW)
    if not fits or len(params) != count:
        raise InvalidValue(
            f"`params` has {len(params)} rows for {count} images, or rows of another view; "
            "give those that sample_params made for these images and this view."
        )


def select_fused_fields(params: ViewParams) -> ViewParams:
    """The fields of FUSED_ROW in an array of their own."""
    fused = np.zeros(len(params), FUSED_ROW)
    for name in FUSED_ROW.names or ():
        fused[name] = params[name]
    return fused
