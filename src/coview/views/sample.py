"""Drawing: numbers of views as a table, one row a view, keyed and never streamed.

The uniforms of a row are those of ``core.keys.uniforms`` in Domain.VIEWS, four to a block:

    block 0        flip, jitter or not, gray, blur or not
    block 1        brightness, contrast, saturation, hue
    block 2        order of the jitter, sigma, solarize, (unused)
    block 3 + a    attempt a of the crop: area, ratio, top, left
    block 16 ...   operations beyond the fused kernel's: draw_staged.py
    block 67 + a   attempt a of the second crop

Every number has its place, so none depends on how many others were drawn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, key_words
from coview.views.multi_pass.sample import sample_multi_pass
from coview.views.parameters import BOX, FUSED_ROW, Table
from coview.views.plan import Crop, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND_CROP = 64
"""How many blocks after the first crop's the attempts of the second lie."""


def sample_params(
    spec: ViewSpec,
    ids: npt.NDArray[np.int64],
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
    *,
    seed: int,
    epoch: int,
    slot: int,
) -> Table:
    """The numbers of one view of each image: structured array [N] with the fields of ROW.

    A view with operations beyond the fused kernel's has the fields of STAGED_ROW. A row is a pure
    function of (spec, seed, epoch, slot, id, height, width). Shapes: ids int64 [N]; heights,
    widths int32 [N]. Raises InvalidValue for a seed, epoch or slot out of range.
    """
    for name, value, limit in (
        ("seed", seed, 2**63),
        ("epoch", epoch, 2**32),
        ("slot", slot, 2**16),
    ):
        if not 0 <= value < limit:
            raise InvalidValue(f"{name} is {value}; give a whole number from 0 to {limit - 1}.")
    low, high = key_words(seed, Stream.VIEWS)
    key = (np.uint32(low), np.uint32(high))
    words = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    sizes = (np.ascontiguousarray(heights, np.int32), np.ascontiguousarray(widths, np.int32))

    def filled(first: int, sizes: tuple[Any, Any], crop: Crop | None) -> Table:
        """The rows whose block 0 is block ``first`` of the whole counter."""
        table = np.zeros(len(words), dtype=FUSED_ROW)
        counter = (np.uint32(first), np.uint32(epoch))
        numbers = (crop_numbers(crop), chances(spec), ranges(spec))
        _fill()(table, words, *sizes, key, counter, *numbers)
        return table

    table = filled(slot << 16, sizes, spec.crop)
    if spec.share_crop_with is not None:
        shared = filled(spec.share_crop_with << 16, sizes, spec.crop)
        for name in BOX:
            table[name] = shared[name]
    if spec.second_crop is not None:
        within = (table["height"].copy(), table["width"].copy())
        second = filled((slot << 16) + SECOND_CROP, within, spec.second_crop)
        second["top"] += table["top"]
        second["left"] += table["left"]
        for name in BOX:
            table[name] = second[name]
    if spec.multi_pass:
        return sample_multi_pass(table, spec, ids, seed=seed, epoch=epoch, slot=slot)
    return table


@lru_cache(maxsize=1)
def _fill() -> Callable[..., Any]:
    from coview.views.philox import fill

    return fill


def crop_numbers(crop: Crop | None) -> npt.NDArray[np.float64]:
    """Bounds of area, ratio and log ratio, or an empty array for the central square."""
    if crop is None:
        return np.zeros(0)
    return np.array([*crop.area, *crop.ratio, *np.log(crop.ratio)])


def chances(spec: ViewSpec) -> npt.NDArray[np.float32]:
    """Probabilities of flip, jitter, gray, blur and solarize."""
    jitter = spec.jitter.probability if spec.jitter else 0.0
    blur = spec.blur.probability if spec.blur else 0.0
    return np.array([spec.flip, jitter, spec.gray, blur, spec.solarize], dtype=np.float32)


def ranges(spec: ViewSpec) -> npt.NDArray[np.float64]:
    """Low and high of brightness, contrast, saturation, hue and sigma: [5, 2]."""
    jitter = spec.jitter
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation) if jitter else (0, 0, 0)
    hue = jitter.hue if jitter else 0.0
    factors = [(max(0.0, 1 - x), 1.0 + x) for x in strengths]
    return np.array([*factors, (-hue, hue), spec.blur.sigma if spec.blur else (0.0, 0.0)])
