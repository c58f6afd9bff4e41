"""Sampling of the operations that the fused kernel lacks: the fields of FULL_ROW beyond FUSED_ROW.

block 16       rotate90 or not, by which turns, cutout or not, noise or not
block 17       height, width, top and left of the cutout
block 18       sigma of the noise, Sobel or not, pair of AutoAugment, (unused)
block 19       two raw words that key the noise of the pixels, (two unused)
block 20 + k   operation k of AutoAugment or RandAugment: which, or not, sign, (unused)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.rng import Stream, keyed_words
from coview.views.multi_pass.auto_augment import (
    OPERATIONS,
    PAIRS,
    RANDOM_OPERATIONS,
    signed_magnitudes,
)
from coview.views.operations import AutoAugment, Cutout, Noise, RandAugment, Rotate90
from coview.views.parameters import FULL_ROW, FUSED_ROW, ViewParams
from coview.views.plan import ViewSpec

FIRST_BLOCK = 16
SIGN, APPLIED, WHICH = 2, 1, 0

Uniforms = npt.NDArray[np.float64]


def sample_full_rows(
    params: ViewParams, spec: ViewSpec, ids: npt.NDArray[np.int64],
    *, seed: int, epoch: int, view: int,
) -> ViewParams:  # fmt: skip
    """``params`` [N] of FUSED_ROW with the further numbers of each view: [N] of FULL_ROW."""
    count = 4 + (spec.augment.operations if isinstance(spec.augment, RandAugment) else 2)
    first = (view << 16) + FIRST_BLOCK
    words = keyed_words(seed, Stream.VIEWS, ids, epoch=epoch, first=first, count=count)
    numbers = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    rows = np.zeros(len(params), FULL_ROW)
    for name in FUSED_ROW.names or ():
        rows[name] = params[name]
    decisions, rectangle, rest = numbers[:, 0], numbers[:, 1], numbers[:, 2]
    rows["sobel"] = rest[:, 1] < spec.sobel
    if spec.rotate90 is not None:
        _sample_rotate90(rows, spec.rotate90, decisions)
    if spec.cutout is not None:
        _sample_cutout(rows, spec.cutout, decisions[:, 2], rectangle, spec.size)
    if spec.noise is not None:
        _sample_noise(rows, spec.noise, decisions[:, 3], rest[:, 0], words[:, 3, :2])
    if isinstance(spec.augment, AutoAugment):
        _sample_auto_augment(rows, spec.augment, rest[:, 2], numbers[:, 4:], spec.size)
    elif spec.augment is not None:
        _sample_rand_augment(rows, spec.augment, numbers[:, 4:], spec.size)
    return rows


def _scale_to(bounds: tuple[float, float], u: Uniforms) -> Uniforms:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _sample_rotate90(rows: ViewParams, rotate90: Rotate90, u: Uniforms) -> None:
    which = np.array(rotate90.turns)[(u[:, 1] * len(rotate90.turns)).astype(np.int64)]
    rows["rotate90"] = np.where(u[:, 0] < rotate90.probability, which, 0)


def _sample_cutout(
    rows: ViewParams, cutout: Cutout, decision: Uniforms, u: Uniforms, size: int
) -> None:
    """The rectangle in whole pixels, at least one; every position in the view equally likely."""
    tall_share = _scale_to(cutout.height, u[:, 0])
    wide_share = tall_share if cutout.width is None else _scale_to(cutout.width, u[:, 1])
    height, width = (np.maximum(np.rint(share * size), 1) for share in (tall_share, wide_share))
    fields = {
        "cut_height": height,
        "cut_width": width,
        "cut_top": np.floor(u[:, 2] * (size - height + 1)),
        "cut_left": np.floor(u[:, 3] * (size - width + 1)),
    }
    for name, value in fields.items():
        rows[name] = np.where(decision < cutout.probability, value, 0)


def _sample_noise(
    rows: ViewParams, noise: Noise, decision: Uniforms, u: Uniforms, key: npt.NDArray[np.uint64]
) -> None:
    rows["noise"] = np.where(decision < noise.probability, _scale_to(noise.sigma, u), 0)
    rows["noise_key"] = key


def _sample_auto_augment(
    rows: ViewParams, augment: AutoAugment, u: Uniforms, each: Uniforms, size: int
) -> None:
    """One of the learned pairs, each operation at its own probability."""
    pairs = PAIRS[augment.policy]
    which = (u * len(pairs)).astype(np.int64)
    for k in range(2):
        steps = [pair[k] for pair in pairs]
        numbers = np.array([OPERATIONS.index(step.name) for step in steps])
        probabilities = np.array([step.probability for step in steps])
        scale = [signed_magnitudes(step.name, step.level, 10, size) for step in steps]
        applied = each[:, k, APPLIED] < probabilities[which]
        rows["operation"][:, k] = np.where(applied, numbers[which], 0)
        _set_magnitude(rows, k, np.array(scale)[which], each[:, k, SIGN])


def _sample_rand_augment(rows: ViewParams, augment: RandAugment, each: Uniforms, size: int) -> None:
    """Every operation of the chain is any of the known ones."""
    level, bins = augment.magnitude, augment.bins
    scale = np.array([signed_magnitudes(name, level, bins, size) for name in RANDOM_OPERATIONS])
    for k in range(augment.operations):
        which = (each[:, k, WHICH] * len(RANDOM_OPERATIONS)).astype(np.int64)
        rows["operation"][:, k] = which
        _set_magnitude(rows, k, scale[which], each[:, k, SIGN])


def _set_magnitude(
    rows: ViewParams, k: int, magnitude: npt.NDArray[np.float64], sign: Uniforms
) -> None:
    """Magnitudes [N, 2] of both signs: the first where ``sign`` is below a half."""
    minus, plus = magnitude[:, 0], magnitude[:, 1]
    value = np.where(sign < 0.5, minus, plus)
    rows["magnitude"][:, k] = np.where(rows["operation"][:, k] == 0, 0, value)
