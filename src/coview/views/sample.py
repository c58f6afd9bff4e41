"""Sampling: the augmentation parameters of views, one row per view, keyed by image.

The uniforms of a row are those of ``core.rng.uniforms`` in Stream.VIEWS, four to a block:

    block 0        flip, jitter or not, grayscale, blur or not
    block 1        brightness, contrast, saturation, hue
    block 2        order of the jitter, sigma, solarize, (unused)
    block 3 + a    attempt a of the crop: area, ratio, top, left
    block 16 ...   operations that the fused kernel lacks: multi_pass/sample.py
    block 67 + a   attempt a of the second crop

Every number has its own position, so none depends on how many others were drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, key_words
from coview.views.multi_pass.sample import sample_full_rows
from coview.views.operations import Crop
from coview.views.parameters import BOX, FUSED_ROW, ViewParams
from coview.views.plan import OrderedViewSpec, ViewSpec

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
    view: int,
) -> ViewParams:
    """The parameters of view number ``view`` of each image: structured array [N] of FUSED_ROW.

    A view with operations that the fused kernel lacks has the fields of FULL_ROW. A row is a pure
    function of (spec, seed, epoch, view, id, height, width). Shapes: ids int64 [N]; heights,
    widths int32 [N]. Raises InvalidValue for a seed, epoch or view out of range.

    >>> sides = np.full(3, 40, np.int32)
    >>> params = sample_params(ViewSpec(size=8, crop=Crop()), np.arange(3), sides, sides,
    ...                        seed=0, epoch=0, view=0)
    >>> len(params), bool((params["top"] + params["height"] <= 40).all())
    (3, True)
    """
    limits = (("seed", seed, 2**63), ("epoch", epoch, 2**32), ("view", view, 2**16))
    for name, value, limit in limits:
        if not 0 <= value < limit:
            raise InvalidValue(f"`{name}` is {value}; expected 0 to {limit - 1}.")
    low, high = key_words(seed, Stream.VIEWS)
    key = (np.uint32(low), np.uint32(high))
    words = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    sizes = (np.ascontiguousarray(heights, np.int32), np.ascontiguousarray(widths, np.int32))

    def sample_from(first: int, sizes: tuple[Any, Any], crop: Crop | None) -> ViewParams:
        """The rows whose block 0 is block ``first`` of the whole counter."""
        rows = np.zeros(len(words), dtype=FUSED_ROW)
        counter = (np.uint32(first), np.uint32(epoch))
        numbers = (_crop_bounds(crop), _probabilities(spec), _ranges(spec))
        _kernel()(rows, words, *sizes, key, counter, *numbers)
        return rows

    params = sample_from(view << 16, sizes, spec.crop)
    if spec.share_crop_with is not None:
        shared = sample_from(spec.share_crop_with << 16, sizes, spec.crop)
        for name in BOX:
            params[name] = shared[name]
    inner = None
    if spec.second_crop is not None and isinstance(spec, OrderedViewSpec):
        sides = np.full(len(words), spec.size, np.int32)
        inner = sample_from((view << 16) + SECOND_CROP, (sides, sides), spec.second_crop)
    elif spec.second_crop is not None:
        within = (params["height"].copy(), params["width"].copy())
        second = sample_from((view << 16) + SECOND_CROP, within, spec.second_crop)
        second["top"] += params["top"]
        second["left"] += params["left"]
        for name in BOX:
            params[name] = second[name]
    if spec.multi_pass:
        params = sample_full_rows(params, spec, ids, seed=seed, epoch=epoch, view=view)
    if inner is not None:
        params["inner"] = np.stack([inner[name] for name in BOX], axis=1)
    return params


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., Any]:
    from coview.views.fused.sample import sample_rows

    return cast("Callable[..., Any]", sample_rows)


def _crop_bounds(crop: Crop | None) -> npt.NDArray[np.float64]:
    """Bounds of area, ratio and log ratio, or an empty array for the central square."""
    if crop is None:
        return np.zeros(0)
    return np.array([*crop.area, *crop.ratio, *np.log(crop.ratio)])


def _probabilities(spec: ViewSpec) -> npt.NDArray[np.float32]:
    """Probabilities of flip, jitter, grayscale, blur and solarize."""
    jitter = spec.jitter.probability if spec.jitter else 0.0
    blur = spec.blur.probability if spec.blur else 0.0
    return np.array([spec.flip, jitter, spec.grayscale, blur, spec.solarize], dtype=np.float32)


def _ranges(spec: ViewSpec) -> npt.NDArray[np.float64]:
    """Low and high of brightness, contrast, saturation, hue and sigma: [5, 2]."""
    jitter = spec.jitter
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation) if jitter else (0, 0, 0)
    hue = jitter.hue if jitter else 0.0
    factors = [(max(0.0, 1 - x), 1.0 + x) for x in strengths]
    return np.array([*factors, (-hue, hue), spec.blur.sigma if spec.blur else (0.0, 0.0)])
