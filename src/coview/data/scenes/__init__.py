"""Scenes: the built-in data set, drawn from a seed in seconds.

Ten kinds of object, each a silhouette with a surface pattern, under random position, scale,
rotation, light, colors, background and clutter. Colors and single pixels say little about the kind;
shape and texture define it. Cluttered scenes show the object between others of other kinds.
"""

from coview.data.scenes.factors import SceneFactors, cluttered_factors, scene_factors
from coview.data.scenes.kinds import KINDS
from coview.data.scenes.store import CLASS_NAMES, make_scenes

__all__ = [
    "CLASS_NAMES", "KINDS", "SceneFactors", "cluttered_factors", "make_scenes", "scene_factors",
]  # fmt: skip
