"""Scenes as an image store."""

from __future__ import annotations

from typing import Final

import numpy as np

from coview.core.errors import InvalidValue
from coview.core.images import ImageStore, image_id, pixel_hashes
from coview.data.scenes.factors import cluttered_factors, scene_factors
from coview.data.scenes.kinds import KINDS
from coview.data.scenes.paint import paint_cluttered, paint_scenes

CLASS_NAMES: Final = tuple(kind.name for kind in KINDS)
MIN_SIZE: Final = 8


def make_scenes(
    count: int = 5000, size: int = 32, *, seed: int = 0, split: str = "train",
    clutter: bool = False,
) -> ImageStore:  # fmt: skip
    """The first ``count`` scenes of a split, size x size pixels, with labels and class names.

    Scene i is a pure function of (seed, split, i): the same bytes on every machine and for any
    ``count``; another ``size`` shows the same scene at another resolution, under the same id.
    "train" and "test" have different random keys. ``clutter``: the labeled object is smaller,
    between three objects of other kinds and up to eight distractors, so that a crop may show
    another object, or none; these are other images, under other ids. Raises InvalidValue for a
    count below 1, a size below 8 or a negative seed, UnknownName for another split.

    >>> make_scenes(10).labels.tolist() == list(range(10))
    False
    >>> sorted(make_scenes(10).labels.tolist()) == list(range(10))
    True
    """
    if size < MIN_SIZE:
        raise InvalidValue(f"`size` of the scenes is {size}; expected at least {MIN_SIZE} pixels.")
    folder, source = "scenes", "scenes"
    if clutter:
        folder, source = "scenes-clutter", "scenes:clutter"
        factors, others = cluttered_factors(count, seed=seed, split=split)
        painted = paint_cluttered(factors, others, size)
    else:
        factors = scene_factors(count, seed=seed, split=split)
        painted = paint_scenes(factors, size)
    names = [f"{folder}/{split}/{seed}/{index:06d}" for index in range(count)]
    pixels = painted.reshape(-1, 4)
    starts = np.arange(count, dtype=np.int64) * size**2
    return ImageStore(
        pixels=pixels, starts=starts,
        content=pixel_hashes(pixels, starts, np.full(count, size**2)),
        heights=np.full(count, size, dtype=np.int32), widths=np.full(count, size, dtype=np.int32),
        ids=np.array([image_id(name) for name in names], dtype=np.int64), names=names,
        labels=factors.kind, class_names=CLASS_NAMES, source=f"{source}:{split}",
    )  # fmt: skip
