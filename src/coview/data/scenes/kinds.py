"""The ten kinds of object: a silhouette with a surface pattern, as signed distances.

Every function maps object coordinates (u right, v down, the silhouette within the unit circle) to
a signed distance that is negative inside the silhouette, or inside a mark of the pattern. Only
operations that IEEE 754 rounds exactly (+ - * / sqrt min max floor) touch a pixel, so that the
same scene has the same bytes on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
Distance = Callable[[Field, Field], Field]


def radius(u: Field, v: Field) -> Field:
    """Distance to the origin."""
    return np.sqrt(u * u + v * v)


def fold(u: Field, v: Field, sectors: int) -> tuple[Field, Field]:
    """Coordinates in one sector of a dihedral symmetry: a mirror line along u, |angle| <= pi/n.

    Each mirror halves the wedge that is left, which is 0 .. pi after the first.
    """
    v, wedge = np.abs(v), sectors
    while wedge > 1:
        wedge = -(-wedge // 2)
        turn = math.pi * wedge / sectors
        normal_u, normal_v = -math.sin(turn), math.cos(turn)
        beyond = np.maximum(u * normal_u + v * normal_v, 0) * 2
        u, v = u - beyond * normal_u, v - beyond * normal_v
    return u, v


def polygon(u: Field, v: Field, sides: int, inner: float) -> Field:
    """A regular polygon with the given inner radius."""
    across, _ = fold(u, v, sides)
    return across - inner


def both(a: Field, b: Field) -> Field:
    """Inside where both are: the intersection."""
    distance: Field = np.maximum(a, b)
    return distance


def either(a: Field, b: Field) -> Field:
    """Inside where one of the two is: the union."""
    distance: Field = np.minimum(a, b)
    return distance


def disc(u: Field, v: Field) -> Field:
    return radius(u, v) - 0.86


def square(u: Field, v: Field) -> Field:
    return both(np.abs(u), np.abs(v)) - 0.74


def triangle(u: Field, v: Field) -> Field:
    return polygon(u, v, 3, 0.52)


def hexagon(u: Field, v: Field) -> Field:
    return polygon(u, v, 6, 0.83)


def star(u: Field, v: Field) -> Field:
    """Five points: in the folded sector one edge from a point (1, 0) to a notch."""
    along, across = fold(u, v, 5)
    notch_u, notch_v = 0.52 * math.cos(math.pi / 5), 0.52 * math.sin(math.pi / 5)
    length = math.hypot(1 - notch_u, notch_v)
    normal_u, normal_v = notch_v / length, (1 - notch_u) / length
    return (along - 1) * normal_u + across * normal_v


def cross(u: Field, v: Field) -> Field:
    long = both(np.abs(u), np.abs(v)) - 0.92
    return both(long, either(np.abs(u), np.abs(v)) - 0.36)


def ring(u: Field, v: Field) -> Field:
    distance: Field = np.abs(radius(u, v) - 0.66) - 0.29
    return distance


def crescent(u: Field, v: Field) -> Field:
    bite = radius(u - 0.5, v) - 0.66
    return both(radius(u, v) - 0.98, -bite)


def heart(u: Field, v: Field) -> Field:
    """A square on its corner with a half disc on each of the two upper edges."""
    half = 0.56
    v = v - 0.14
    a, b = (u + v) * math.sqrt(0.5), (u - v) * math.sqrt(0.5)
    box = both(np.abs(a), np.abs(b)) - half
    left = radius(a + half, b)
    right = radius(a, b - half)
    return either(box, either(left, right) - half)


def flower(u: Field, v: Field) -> Field:
    along, across = fold(u, v, 6)
    petal = radius(along - 0.64, across) - 0.33
    return either(petal, radius(u, v) - 0.6)


def wave(t: Field) -> Field:
    """Triangle wave of period 1 with slope one: the distance to the nearest whole number - 1/4."""
    height: Field = np.abs(t - np.floor(t + 0.5)) - 0.25
    return height


def stripes(u: Field, v: Field) -> Field:
    return wave(u * (1 / 0.42)) * 0.42


def checks(u: Field, v: Field) -> Field:
    """A point lies in a mark where exactly one of the two sets of bands covers it."""
    a, b = wave(u * (1 / 1.04)), wave(v * (1 / 1.04))
    return both(either(a, b), -both(a, b)) * 1.04


def dots(u: Field, v: Field) -> Field:
    pitch = 0.4
    row = np.floor(v / pitch + 0.5)
    shift = row * 0.5
    a = u / pitch + shift
    a = a - np.floor(a + 0.5)
    b = v / pitch - row
    return (radius(a, b) - 0.36) * pitch


def rings(u: Field, v: Field) -> Field:
    return wave(radius(u, v) * (1 / 0.38)) * 0.38


def rays(u: Field, v: Field) -> Field:
    """Ten sectors light and ten dark in turn: the sign changes in the middle of each fold."""
    along, across = fold(u, v, 10)
    tilt = math.pi / 20
    return across * math.cos(tilt) - along * math.sin(tilt)


def zigzag(u: Field, v: Field) -> Field:
    rise = wave(u * (1 / 0.5)) * 0.5
    return wave((v + rise) * (1 / 0.4)) * (0.4 * math.sqrt(0.5))


def weave(u: Field, v: Field) -> Field:
    """Square cells, striped along and across in turn."""
    a, b = u * (1 / 0.72), v * (1 / 0.72)
    turned = (np.floor(a + 0.5) + np.floor(b + 0.5)) * 0.5
    turned = turned != np.floor(turned)
    return wave(np.where(turned, a, b) * 3) * 0.24


def net(u: Field, v: Field) -> Field:
    a, b = wave(u * (1 / 0.44)), wave(v * (1 / 0.44))
    return (either(a, b) + 0.13) * 0.44


def rim(u: Field, v: Field) -> Field:
    """A single mark along the outer edge of the crescent."""
    return 0.66 - radius(u, v)


def beads(u: Field, v: Field) -> Field:
    along, across = fold(u, v, 7)
    return radius(along - 0.66, across) - 0.19


@dataclass(frozen=True, slots=True)
class Kind:
    """A silhouette with its pattern, which lies off the center by at most ``drift`` / 2."""

    name: str
    silhouette: Distance
    pattern: Distance
    drift: float


KINDS: Final = (
    Kind("striped disc", disc, stripes, 1.0),
    Kind("checked square", square, checks, 1.0),
    Kind("dotted flower", flower, dots, 1.0),
    Kind("ringed hexagon", hexagon, rings, 0.7),
    Kind("rayed star", star, rays, 0.3),
    Kind("zigzag triangle", triangle, zigzag, 1.0),
    Kind("rimmed crescent", crescent, rim, 0.3),
    Kind("woven cross", cross, weave, 1.0),
    Kind("netted heart", heart, net, 1.0),
    Kind("beaded ring", ring, beads, 0.1),
)
