"""From factors to pixels: background, clutter, shadow, and the lit object on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from coview.data.scenes.factors import SceneFactors
from coview.data.scenes.kinds import KINDS, Distance, Field, Kind, radius

# Pixels per chunk: few enough that the planes of a chunk stay in the processor's cache.
CHUNK: Final = 1 << 15


def paint_scenes(factors: SceneFactors, size: int) -> npt.NDArray[np.uint8]:
    """The scenes as uint8 [N, size, size, 4] (R, G, B, 0)."""
    pixels = np.zeros((len(factors), size, size, 4), dtype=np.uint8)
    step = max(1, CHUNK // size**2)
    for label, kind in enumerate(KINDS):
        members = np.flatnonzero(factors.kind == label)
        for start in range(0, len(members), step):
            rows = members[start : start + step]
            planes = _draw(factors.subset(rows), size, kind)
            for channel, plane in enumerate(planes):
                pixels[rows, :, :, channel] = _bytes(plane)
    return pixels


def paint_cluttered(
    factors: SceneFactors, others: Sequence[SceneFactors], size: int
) -> npt.NDArray[np.uint8]:
    """As :func:`paint_scenes`, with the objects ``others`` of each scene beneath the labeled one.

    Where objects overlap, the labeled one is on top, and a later other one on an earlier one.
    """
    pixels = np.zeros((len(factors), size, size, 4), dtype=np.uint8)
    step = max(1, CHUNK // size**2)
    x, y, pixel = _frame(size)
    for start in range(0, len(factors), step):
        rows = np.arange(start, min(start + step, len(factors)))
        scene = factors.subset(rows)
        planes = _ground(scene, _color(scene, 2), x, y, pixel)
        for layer in (*(other.subset(rows) for other in others), scene):
            for label, kind in enumerate(KINDS):
                members = np.flatnonzero(layer.kind == label)
                if len(members):
                    below = [plane[members] for plane in planes]
                    put = _put_object(below, layer.subset(members), kind, x, y, pixel)
                    for plane, new in zip(planes, put, strict=True):
                        plane[members] = new
        for channel, plane in enumerate(planes):
            pixels[rows, :, :, channel] = _bytes(plane)
    return pixels


def _frame(size: int) -> tuple[Field, Field, float]:
    """x [1, 1, size] and y [1, size, 1] of the pixels, and the width of one."""
    pixel = 2 / size
    line = (np.arange(size, dtype=np.float32) + 0.5) * pixel - 1
    return line[None, None, :], line[None, :, None], pixel


def _draw(factors: SceneFactors, size: int, kind: Kind) -> list[Field]:
    """Red, green and blue of scenes of one kind, each [N, size, size] in about 0 .. 1."""
    x, y, pixel = _frame(size)
    return _put_object(
        _ground(factors, _color(factors, 2), x, y, pixel), factors, kind, x, y, pixel
    )


def _put_object(
    canvas: list[Field], factors: SceneFactors, kind: Kind, x: Field, y: Field, pixel: float
) -> list[Field]:
    """The planes ``canvas`` with the object of ``factors`` and its shadow on them."""
    surface, marks = (_color(factors, part) for part in range(2))
    scale = _column(factors.scale)
    u, v = _object_coordinates(factors, x, y)
    inside = _coverage(kind.silhouette(u, v) * scale, pixel)
    drift_u, drift_v = (_column(part * kind.drift) for part in factors.phase.T)
    marked = _coverage(kind.pattern(u + drift_u, v + drift_v) * scale, pixel)
    light = _light(factors, x, y)
    shaded = 1 - 0.35 * _shadow(factors, kind.silhouette, x, y)
    planes: list[Field] = []
    for base, mark, behind in zip(surface, marks, canvas, strict=True):
        top = (base + (mark - base) * marked) * light
        below = behind * shaded
        planes.append(below + (top - below) * inside)
    return planes


def _object_coordinates(
    factors: SceneFactors, x: Field, y: Field, shift: float = 0.0
) -> tuple[Field, Field]:
    """Frame coordinates as seen by the object; ``shift`` moves it away from the light."""
    away = -shift
    x = x - _column(factors.position[:, 0] + away * _cosine(factors.light_direction))
    y = y - _column(factors.position[:, 1] + away * _sine(factors.light_direction))
    cosine = _column(_cosine(factors.rotation) / factors.scale)
    sine = _column(_sine(factors.rotation) / factors.scale)
    return cosine * x + sine * y, cosine * y - sine * x


def _light(factors: SceneFactors, x: Field, y: Field) -> Field:
    """Brightness times a slope that rises by 18 % of the frame towards the light."""
    towards_x = _column(_cosine(factors.light_direction) * 0.1)
    towards_y = _column(_sine(factors.light_direction) * 0.1)
    slope = 1 + x * towards_x + y * towards_y
    return slope * _column(factors.brightness)


def _shadow(factors: SceneFactors, silhouette: Distance, x: Field, y: Field) -> Field:
    """A soft shadow, on the side away from the light."""
    u, v = _object_coordinates(factors, x, y, shift=0.09)
    return _coverage(silhouette(u, v) * _column(factors.scale), 0.16)


def _ground(
    factors: SceneFactors, color: list[Field], x: Field, y: Field, pixel: float
) -> list[Field]:
    """A background of two faint crossing waves, with the distractors on it."""
    direction, frequency, phase, contrast = factors.background.T
    along = _column(_cosine(direction) * frequency * 0.5)
    across = _column(_sine(direction) * frequency * 0.5)
    start = _column(phase)
    texture = _ripple(x * along + y * across + start) + _ripple(y * along - x * across + start)
    lit = (1 + texture * _column(contrast * 2)) * _light(factors, x, y)
    planes: list[Field] = [plane * lit for plane in color]
    for item in range(factors.clutter.shape[1]):
        _add_distractor(planes, factors.clutter[:, item], x, y, pixel)
    return planes


def _add_distractor(planes: list[Field], clutter: Field, x: Field, y: Field, pixel: float) -> None:
    """A small plain blob between square (roundness 0) and disc (1), close in tone to the ground."""
    center_x, center_y, size, hue, round_ = (_column(part) for part in clutter.T)
    a, b = x - center_x, y - center_y
    box = np.maximum(np.abs(a), np.abs(b)) - size
    blob = box + (radius(a, b) - size - box) * round_
    seen = _coverage(blob, pixel) * (size > 0)
    for plane, tint in zip(planes, _hue(hue, 0.25, 0.5), strict=True):
        plane += (tint - plane) * seen * 0.5


def _color(factors: SceneFactors, part: int) -> list[Field]:
    saturation = (0.45, 0.1, 0.15)[part]
    return _hue(_column(factors.hue[:, part]), saturation, _column(factors.tone[:, part]))


def _hue(hue: Field, saturation: float, tone: Field | float) -> list[Field]:
    """Red, green and blue of the given luma (Rec. 601 weights), hue in turns.

    The three channels are trapezia of the hue; subtracting their luma keeps hue and tone apart.
    """
    weights = (0.299, 0.587, 0.114)
    raw = []
    for offset in (0.0, 2 / 3, 1 / 3):
        t = hue + offset
        distance = np.abs((t - np.floor(t)) * 6 - 3) - 1
        raw.append(np.clip(distance, 0, 1))
    luma = sum(weight * plane for weight, plane in zip(weights, raw, strict=True))
    tone = np.asarray(tone, dtype=np.float32)
    reach = np.minimum(tone, 1 - tone) * (2 * saturation)
    return [tone + (plane - luma) * reach for plane in raw]


def _coverage(distance: Field, width: float) -> Field:
    """The share of a pixel that a signed distance covers, for an edge of ``width``."""
    share: Field = np.clip(0.5 - distance / width, 0, 1)
    return share


def _ripple(t: Field) -> Field:
    """A smooth wave of period 1 between -1 and 1, made of parabolas."""
    t = t - np.floor(t) - 0.5
    return 16 * t * (0.5 - np.abs(t))


def _cosine(angle: Field) -> Field:
    return np.cos(angle.astype(np.float64)).astype(np.float32)


def _sine(angle: Field) -> Field:
    return np.sin(angle.astype(np.float64)).astype(np.float32)


def _column(values: Field) -> Field:
    return values[:, None, None]


def _bytes(plane: Field) -> npt.NDArray[np.uint8]:
    return (np.clip(plane, 0, 1) * 255 + 0.5).astype(np.uint8)
