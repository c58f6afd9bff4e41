"""Drawing the operations beyond the fused kernel's: the rest of a row of STAGED_ROW.

block 16       turn or not, which turn, cutout or not, noise or not
block 17       height, width, top and left of the cutout
block 18       sigma of the noise, Sobel or not, pair of AutoAugment, (unused)
block 19       two raw words that key the noise of the pixels, (two unused)
block 20 + k   operation k of AutoAugment or RandAugment: which, or not, sign, (unused)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coview.core.rng import Stream, key_words, philox
from coview.views.multi_pass.auto_augment import PAIRS, RANDOM_OPERATIONS, magnitude_of, number_of
from coview.views.operations import AutoAugment, Cutout, Noise, RandAugment, Rotate90
from coview.views.parameters import FULL_ROW, FUSED_ROW, Table
from coview.views.plan import ViewSpec

FIRST = 16
SIGN, APPLIED, WHICH = 2, 1, 0

Uniforms = npt.NDArray[np.float64]


def sample_multi_pass(
    table: Table, spec: ViewSpec, ids: npt.NDArray[np.int64], *, seed: int, epoch: int, slot: int
) -> Table:
    """``table`` [N] of ROW with the further numbers of each view: [N] of STAGED_ROW."""
    count = 4 + (spec.augment.operations if isinstance(spec.augment, RandAugment) else 2)
    words = _words(ids, seed, epoch, (slot << 16) + FIRST, count)
    numbers = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    wide = np.zeros(len(table), FULL_ROW)
    for name in FUSED_ROW.names or ():
        wide[name] = table[name]
    decisions, rectangle, rest = numbers[:, 0], numbers[:, 1], numbers[:, 2]
    wide["sobel"] = rest[:, 1] < spec.sobel
    if spec.rotate90 is not None:
        _draw_turn(wide, spec.rotate90, decisions)
    if spec.cutout is not None:
        _draw_cutout(wide, spec.cutout, decisions[:, 2], rectangle, spec.size)
    if spec.noise is not None:
        _draw_noise(wide, spec.noise, decisions[:, 3], rest[:, 0], words[:, 3, :2])
    if isinstance(spec.augment, AutoAugment):
        _draw_pair(wide, spec.augment, rest[:, 2], numbers[:, 4:], spec.size)
    elif spec.augment is not None:
        _draw_chain(wide, spec.augment, numbers[:, 4:], spec.size)
    return wide


def _words(
    ids: npt.NDArray[np.int64], seed: int, epoch: int, first: int, count: int
) -> npt.NDArray[np.uint64]:
    """``count`` blocks of every id from counter ``first`` on: 32-bit words [N, count, 4]."""
    names = np.ascontiguousarray(ids, np.int64).view(np.uint64)[:, None]
    counter = np.empty((len(ids), count, 4), np.uint64)
    counter[..., 0] = np.arange(first, first + count, dtype=np.uint64)
    counter[..., 1], counter[..., 2] = names & np.uint64(0xFFFFFFFF), names >> np.uint64(32)
    counter[..., 3] = np.uint64(epoch)
    return philox(counter, key_words(seed, Stream.VIEWS))


def _between(bounds: tuple[float, float], u: Uniforms) -> Uniforms:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _draw_turn(wide: Table, rotate90: Rotate90, u: Uniforms) -> None:
    which = np.array(rotate90.turns)[(u[:, 1] * len(rotate90.turns)).astype(np.int64)]
    wide["turns"] = np.where(u[:, 0] < rotate90.probability, which, 0)


def _draw_cutout(wide: Table, cutout: Cutout, decision: Uniforms, u: Uniforms, size: int) -> None:
    """The rectangle in whole pixels, at least one; every place within the view equally likely."""
    tall = _between(cutout.height, u[:, 0])
    broad = tall if cutout.width is None else _between(cutout.width, u[:, 1])
    height, width = (np.maximum(np.rint(share * size), 1) for share in (tall, broad))
    drawn = {
        "cut_height": height,
        "cut_width": width,
        "cut_top": np.floor(u[:, 2] * (size - height + 1)),
        "cut_left": np.floor(u[:, 3] * (size - width + 1)),
    }
    for name, value in drawn.items():
        wide[name] = np.where(decision < cutout.probability, value, 0)


def _draw_noise(
    wide: Table, noise: Noise, decision: Uniforms, u: Uniforms, key: npt.NDArray[np.uint64]
) -> None:
    wide["noise"] = np.where(decision < noise.probability, _between(noise.sigma, u), 0)
    wide["noise_key"] = key


def _draw_pair(wide: Table, augment: AutoAugment, u: Uniforms, each: Uniforms, size: int) -> None:
    """AutoAugment: one of its pairs, each operation at its own probability."""
    pairs = PAIRS[augment.policy]
    which = (u * len(pairs)).astype(np.int64)
    for k in range(2):
        steps = [pair[k] for pair in pairs]
        numbers = np.array([number_of(step.name) for step in steps])
        likely = np.array([step.probability for step in steps])
        scale = [magnitude_of(step.name, step.level, 10, size) for step in steps]
        applied = each[:, k, APPLIED] < likely[which]
        wide["operation"][:, k] = np.where(applied, numbers[which], 0)
        _set_magnitude(wide, k, np.array(scale)[which], each[:, k, SIGN])


def _draw_chain(wide: Table, augment: RandAugment, each: Uniforms, size: int) -> None:
    """RandAugment: every operation of the chain is any of the known ones."""
    level, bins = augment.magnitude, augment.bins
    scale = np.array([magnitude_of(name, level, bins, size) for name in RANDOM_OPERATIONS])
    for k in range(augment.operations):
        which = (each[:, k, WHICH] * len(RANDOM_OPERATIONS)).astype(np.int64)
        wide["operation"][:, k] = which
        _set_magnitude(wide, k, scale[which], each[:, k, SIGN])


def _set_magnitude(wide: Table, k: int, magnitude: npt.NDArray[np.float64], sign: Uniforms) -> None:
    """Magnitudes [N, 2] of both signs: the first where ``sign`` is below a half."""
    minus, plus = magnitude[:, 0], magnitude[:, 1]
    value = np.where(sign < 0.5, minus, plus)
    wide["magnitude"][:, k] = np.where(wide["operation"][:, k] == 0, 0, value)
