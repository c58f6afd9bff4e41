"""What a run has reached, in words: sentences for everybody, and one line for specialists."""

from __future__ import annotations

import math

from coview.diagnosis.state import RunState


def comparison(state: RunState) -> str:
    """How good the encoder is, compared with what: a sentence that takes no knowledge.

    Where the held-out images have labels, by those of their nearest neighbors; else by finding
    images from a piece of them, which orders encoders much as labels do (docs/lab/0005).
    """
    if state.neighbors is not None:
        neighbors = state.neighbors
        pixels = (
            "" if neighbors.pixels is None else f"; raw pixels do in {_of_100(neighbors.pixels)}"
        )
        # An evaluation has other images and another k, so both are said.
        nearest = "" if neighbors.k is None else f"{neighbors.k} "
        return (
            f"By the {nearest}most similar images, the encoder gives an unseen image its right "
            f"label in {_of_100(neighbors.now)} of 100 cases{pixels}, {state.network_before} in "
            f"{_of_100(neighbors.untrained)} (on {neighbors.images:,} held-out images)."
        )
    now = state.now
    pieces = (now.piece_accuracy_h, now.piece_accuracy_pixels, now.piece_accuracy_levels)
    encoder, pixels, levels = map(_of_100, pieces)
    return (
        "Shown a gray piece of an image that it has never seen, the encoder finds another piece "
        f"of the same image among {now.images:,} in {encoder} of 100 cases; raw pixels do in "
        f"{pixels}, brightness alone in {levels}, {state.network_before} in "
        f"{_of_100(state.untrained.piece_accuracy_h)}."
    )


def beside_pixels(state: RunState) -> str:
    """In words, what functions of the pixels do as well as the encoder does; "" if none does."""
    now, neighbors = state.now, state.neighbors
    if neighbors is not None and neighbors.pixels is not None:
        # Where there are labels they say more than images that are found again.
        worse = neighbors.now <= neighbors.pixels
        return "raw pixels are right as often about labels" if worse else ""
    if state.classes:
        return ""
    if now.piece_accuracy_h <= max(now.piece_accuracy_pixels, now.piece_accuracy_levels):
        pixels = now.piece_accuracy_pixels >= now.piece_accuracy_levels
        return f"{'raw pixels find' if pixels else 'brightness alone finds'} as many images"
    cue, share = now.cue
    if max(now.instance_accuracy_z, now.instance_accuracy_h) <= share:
        return f"{cue} finds {share:.0%} of the pairs of views, as many as the network"
    return ""


def all_figures(state: RunState) -> str:
    """The line for specialists.

    Each figure stands beside that of step 0, of a network whose BatchNorm statistics are settled.
    """
    now, before = state.now, state.untrained
    line = (
        f"Instance accuracy of z {now.instance_accuracy_z:.1%} ({state.before} "
        f"{before.instance_accuracy_z:.1%}, chance {1 / now.images:.1%}, {now.cue[0]} "
        f"{now.cue[1]:.1%}); rank of h {now.rank_h:.0f} of {min(now.width_h, now.images)} "
        f"({state.before} {before.rank_h:.0f}); feature std of z {now.feature_std_z:.2f} "
        f"({state.before} {before.feature_std_z:.2f}){_held_out_loss(state)}"
    )
    if state.neighbors is not None:
        neighbors = state.neighbors
        pixels = "" if neighbors.pixels is None else f", pixels {neighbors.pixels:.1%}"
        line += (
            f"; kNN {neighbors.now:.1%} ({state.before} {neighbors.untrained:.1%}{pixels}) of "
            f"{neighbors.images:,} held-out images"
        )
    return f"{line}."


def _held_out_loss(state: RunState) -> str:
    """By its share of the way: its levels are others than those of the training loss."""
    now, before = state.now.position, state.untrained.position
    if not (math.isfinite(now) and math.isfinite(before)):
        return ""
    return (
        f"; held-out loss {round(now, 2) + 0.0:.0%} of the way from the chance level to the lower "
        f"bound ({state.before} {round(before, 2) + 0.0:.0%})"
    )


def _of_100(share: float) -> str:
    """A share as a number of cases of a hundred.

    >>> _of_100(0.43), _of_100(0.004), _of_100(0.0)
    ('43', '0.4', '0')
    """
    cases = 100 * share
    return f"{cases:.0f}" if cases >= 0.95 or cases < 0.05 else f"{cases:.1f}"
