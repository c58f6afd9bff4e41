"""The factors of scenes, sampled before any pixel is painted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from coview.core.errors import InvalidValue, UnknownName
from coview.core.rng import Stream, uniforms
from coview.data.scenes.kinds import KINDS

SPLITS: Final = ("train", "test")
CLUTTER: Final = 3
OTHERS: Final = 3
"""How many other objects a cluttered scene has."""
SCATTERED: Final = 8
"""How many distractors a cluttered scene has at most."""
FIRST_OF_CLUTTER: Final = 64
"""Where the draws begin that only cluttered scenes make."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneFactors:
    """The factors of N scenes; the frame spans -1 .. 1 in both axes, y points down.

    Shapes and ranges: kind int64 [N] in 0 .. 9 (the label); position float32 [N, 2], the center
    of the object, in -0.5 .. 0.5; scale [N] in 0.7 .. 1.05, its radius; rotation [N] in radians,
    -pi/8 .. pi/8; phase [N, 2] in -0.5 .. 0.5, the shift of the pattern on the object (times the
    drift of its kind); light_direction [N] in radians, 0 .. 2 pi; brightness [N] in 0.85 .. 1.1;
    hue [N, 3] in 0 .. 1 (surface, marks, background), independent of the kind; tone [N, 3], the
    luma of the same three in 0 .. 1; background [N, 4]: the direction (radians, 0 .. 2 pi),
    frequency (0.8 .. 2 waves per frame), phase (0 .. 1) and contrast (0.01 .. 0.03) of its
    texture; clutter [N, 3, 5]: for each distractor x, y, radius (0 where there is none), hue and
    roundness (0 a square, 1 a disc).
    """

    kind: npt.NDArray[np.int64]
    position: Floats
    scale: Floats
    rotation: Floats
    phase: Floats
    light_direction: Floats
    brightness: Floats
    hue: Floats
    tone: Floats
    background: Floats
    clutter: Floats

    def __len__(self) -> int:
        return len(self.kind)

    def subset(self, rows: npt.NDArray[np.int64]) -> SceneFactors:
        """The factors of the given rows, in that order."""
        return SceneFactors(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


def scene_factors(count: int, *, seed: int = 0, split: str = "train") -> SceneFactors:
    """The factors of the first ``count`` scenes of a split.

    Scene i is a pure function of (seed, split, i): it does not depend on ``count``. Every run of
    ten scenes that starts at a multiple of ten holds each kind once. Raises InvalidValue for a
    count below 1 or a negative seed, UnknownName for a split other than "train" and "test".
    """
    if count < 1:
        raise InvalidValue(f"`count` of the scenes is {count}; expected at least 1 image.")
    if seed < 0:
        raise InvalidValue(f"`seed` of the scenes is {seed}; expected at least 0.")
    if split not in SPLITS:
        raise UnknownName("split of scenes", split, SPLITS)
    return _Draws(count, seed, SPLITS.index(split)).factors()


def cluttered_factors(
    count: int, *, seed: int = 0, split: str = "train"
) -> tuple[SceneFactors, tuple[SceneFactors, ...]]:
    """The factors of cluttered scenes: of the labeled object, and of each of OTHERS other objects.

    The labeled object is that of :func:`scene_factors` with a scale of 0.5 to 0.7, and has
    SCATTERED distractors around it in place of 3: clutter is [N, 8, 5]. Each other object has a
    kind of its own, which is not the labeled one, a scale of 0.28 to 0.4, a position in
    -0.85 .. 0.85, and the light of the scene. Arguments and errors as of :func:`scene_factors`.
    """
    main = scene_factors(count, seed=seed, split=split)
    draws = _Draws(count, seed, SPLITS.index(split), first=FIRST_OF_CLUTTER)
    small = draws.uniform(2, 1, 0.5, 0.7)[:, 0]
    main = replace(main, scale=small, clutter=draws.clutters(SCATTERED))
    others = []
    for number in range(OTHERS):
        draws = _Draws(count, seed, SPLITS.index(split), first=FIRST_OF_CLUTTER + 16 * (1 + number))
        step = 1 + (draws.uniform(10, 1)[:, 0] * (len(KINDS) - 1)).astype(np.int64)
        others.append(
            replace(
                draws.factors(), kind=(main.kind + step) % len(KINDS),
                position=draws.uniform(1, 2, -0.85, 0.85),
                scale=draws.uniform(2, 1, 0.28, 0.4)[:, 0],
                light_direction=main.light_direction, brightness=main.brightness,
            )
        )  # fmt: skip
    return main, tuple(others)


class _Draws:
    """Keyed uniforms of each scene: the split is their ``epoch``, the factor their ``view``, from
    ``first`` on."""

    def __init__(self, count: int, seed: int, epoch: int, first: int = 0) -> None:
        self.count, self.seed, self.epoch, self.first = count, seed, epoch, first
        self.indices = np.arange(count, dtype=np.int64)

    def uniform(self, view: int, columns: int, low: float = 0.0, high: float = 1.0) -> Floats:
        unit = uniforms(
            self.seed, Stream.SCENES, self.indices, epoch=self.epoch, view=self.first + view,
            count=columns,
        )  # fmt: skip
        return np.float32(low) + np.float32(high - low) * unit

    def kinds(self) -> npt.NDArray[np.int64]:
        blocks = np.arange(-(-self.count // len(KINDS)), dtype=np.int64)
        order = uniforms(
            self.seed, Stream.SCENES, blocks, epoch=self.epoch, view=0, count=len(KINDS)
        )
        return np.argsort(order, axis=1, kind="stable").reshape(-1)[: self.count].astype(np.int64)

    def tones(self) -> Floats:
        """Light marks on a dark surface or the reverse, on a background of any middle tone."""
        unit = self.uniform(5, 4)
        dark, light = 0.2 + 0.08 * unit[:, 0], 0.8 + 0.1 * unit[:, 1]
        swap = unit[:, 3] < 0.5
        surface, marks = np.where(swap, light, dark), np.where(swap, dark, light)
        return np.stack([surface, marks, 0.4 + 0.2 * unit[:, 2]], axis=1).astype(np.float32)

    def backgrounds(self) -> Floats:
        unit = self.uniform(6, 4)
        low = np.array([0, 0.8, 0, 0.01], dtype=np.float32)
        high = np.array([2 * np.pi, 2.0, 1, 0.03], dtype=np.float32)
        return low + (high - low) * unit

    def clutters(self, most: int = CLUTTER) -> Floats:
        unit = self.uniform(7, most * 6).reshape(self.count, most, 6)
        low = np.array([-1, -1, 0.08, 0, 0], dtype=np.float32)
        high = np.array([1, 1, 0.18, 1, 1], dtype=np.float32)
        clutter = low + (high - low) * unit[..., :5]
        clutter[..., 2] *= unit[..., 5] < 0.6
        return clutter

    def factors(self) -> SceneFactors:
        return SceneFactors(
            kind=self.kinds(), position=self.uniform(1, 2, -0.5, 0.5),
            scale=self.uniform(2, 1, 0.7, 1.05)[:, 0],
            rotation=self.uniform(3, 1, -np.pi / 8, np.pi / 8)[:, 0],
            phase=self.uniform(9, 2, -0.5, 0.5),
            light_direction=self.uniform(4, 2, 0, 2 * np.pi)[:, 0],
            brightness=self.uniform(4, 2, 0.85, 1.1)[:, 1], hue=self.uniform(8, 3),
            tone=self.tones(), background=self.backgrounds(), clutter=self.clutters(),
        )  # fmt: skip
