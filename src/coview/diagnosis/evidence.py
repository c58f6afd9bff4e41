"""Is it better, or is it chance? The comparisons on which the rules of the diagnosis rest."""

from __future__ import annotations

import math
from itertools import pairwise

from coview.core.text import plural
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.state import NeighborAccuracy, RunState

# Calibrated as the numbers in rules.py.
# HealthFigures.separation of runs whose views do not match: -0.03 .. 0.03; healthy ones have 0.37
# and more, and an untrained network with BatchNorm at its output 0.06.
MATCHED = 0.05
# Gain of HealthFigures.position that counts although views match no more often: runs that gained
# nothing had 0.08 and less, BYOL after 600 steps 0.19, a healthy SimCLR 0.42.
GAINED_POSITION = 0.15
GAINED_POSITION_CLASSES = 0.05  # with labels, views of one image need not match more often
RANK_SHARE = 0.5  # of the highest rank so far, the untrained network's included
RANK_REPORTS = 3  # reports over which the rank must fall
ONE_DIRECTION_RANK = 1.5  # one direction gives 1.0, two equal ones 2.0
USEFUL_GAIN = 0.02
"""In accuracy or AP: where the interval of a difference holds it, "no better" is not shown."""
MORE_TEST_IMAGES = "Judge it on more images: `test` takes labeled ones that no run has trained on."
ERRORS = 2.5  # standard errors of the difference: one-sided level 0.6 %


def has_risen(before: float, now: float, images: int) -> bool:
    """Whether a share of ``images`` has risen by more than chance, at a level of 0.6 %.

    By 2.5 standard errors of the difference of two shares, each with one success and one failure
    added (Agresti and Caffo 2000), which keeps the level for few images and for shares near 0. Both
    are of the same images, whose answers are more alike than those of different ones, so that the
    true level is lower still. Shares in [0, 1]; not a number gives False.

    >>> has_risen(0.10, 0.12, images=1000), has_risen(0.10, 0.20, images=1000)
    (False, True)
    """
    shares = [(share * images + 1) / (images + 2) for share in (before, now)]
    error = math.sqrt(sum(share * (1 - share) for share in shares) / (images + 2))
    return shares[1] - shares[0] > ERRORS * error


def has_gained(state: RunState) -> bool:
    """Whether the network is better than untrained by any figure that is more than chance."""
    before, now, neighbors = state.untrained, state.now, state.neighbors
    if neighbors is not None:
        learned = has_risen(neighbors.untrained, neighbors.now, neighbors.images)
        if learned or (state.classes and not has_no_room(neighbors)):
            return learned
    step = GAINED_POSITION_CLASSES if state.classes else GAINED_POSITION
    return (
        matches_more(before, now)
        or has_risen(before.piece_accuracy_h, now.piece_accuracy_h, now.images)
        # An untrained network may be worse than chance: to leave that is no gain.
        or now.position - max(before.position, 0.0) > step
    )


def has_no_room(neighbors: NeighborAccuracy) -> bool:
    """Whether kNN accuracy was so high that no rise on so few images is more than chance.

    >>> easy = NeighborAccuracy(untrained=0.97, now=1.0, images=128)
    >>> hard = NeighborAccuracy(untrained=0.5, now=0.5, images=128)
    >>> has_no_room(easy), has_no_room(hard)
    (True, False)
    """
    can_rise = has_risen(neighbors.untrained, 1.0, neighbors.images)
    return not can_rise and neighbors.now >= neighbors.untrained


def matches_more(before: HealthFigures, now: HealthFigures) -> bool:
    """Whether instance accuracy rose by more than chance and the loss is no worse."""
    rises = has_risen(before.instance_accuracy_z, now.instance_accuracy_z, now.images)
    return rises and not now.position < before.position  # which may not be known


def one_direction(state: RunState, ranks: list[float]) -> bool:
    return ranks[-1] <= ONE_DIRECTION_RANK and state.now.separation > MATCHED


def losing_rank(state: RunState, ranks: list[float]) -> bool:
    """Below half of the highest rank, falling at each report, without better instance accuracy."""
    if len(ranks) <= RANK_REPORTS:
        return False
    falling = all(later < earlier for earlier, later in pairwise(ranks[-RANK_REPORTS - 1 :]))
    low = ranks[-1] < RANK_SHARE * max(ranks)
    of_classes = state.classes > 0 and ranks[-1] >= RANK_SHARE * state.classes
    # A rank that falls while views match better than at the highest rank is no collapse.
    widest = ranks.index(max(ranks))
    worse = state.now.instance_accuracy_z <= state.reports[widest].instance_accuracy_z
    return falling and low and worse and not of_classes


def undecided(words: str, images: int, gain: float, interval: tuple[float, float]) -> str:
    """That a difference within chance may be a useful gain, as a sentence without its end; "" where
    it is none: no better is then what the test images show.

    ``words``: "than ..."; ``gain`` and ``interval``: in shares.

    >>> undecided("than before", 80, 0.0875, (-0.01, 0.18))
    'Better than before by 8.8 points, but 80 test images are too few to be sure (95 % interval \
-1.0 to 18.0 points)'
    >>> undecided("than before", 80, -0.01, (-0.11, 0.09))
    'No better than before, but 80 test images are too few to exclude a gain of 9.0 points'
    >>> undecided("than before", 10_000, 0.001, (-0.005, 0.007))
    ''
    """
    low, high = interval
    if high < USEFUL_GAIN:
        return ""
    few = f"but {plural(images, 'test image')} are too few to"
    if gain <= 0:
        return f"No better {words}, {few} exclude a gain of {100 * high:.1f} points"
    return (
        f"Better {words} by {100 * gain:.1f} points, {few} be sure (95 % interval {100 * low:.1f} "
        f"to {100 * high:.1f} points)"
    )
