"""Has it learned anything? One verdict, in plain words, from the health figures of a run.

    verdict            exit code   what was seen
    learning               0       better than the untrained network
    too early              0       fewer than 200 steps, or improving long before the plan's end
    chance                 3       embeddings differ, but views do not find each other
    collapsed              4       every image has the same embedding, or the network diverged
    partly collapsed       5       few of the directions are used
    unchanged              6       no better than the untrained network
    shortcut               7       views match without looking at what is shown

The rules are asked in the order of :data:`RULES`; the first that answers is the verdict. They hold
for set objectives (NT-Xent, SupCon and their kin), whose loss at chance and at the practical floor
is measured with the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from coview.core.errors import InvalidValue
from coview.diagnosis.health import HealthFigures

EXIT_CODES = {
    "learning": 0,
    "too early": 0,
    "at chance": 3,
    "collapsed": 4,
    "dimensional collapse": 5,
    "unchanged": 6,
    "shortcut": 7,
}


class Option(StrEnum):
    """The command-line options that a remedy may name: the one place that spells them."""

    LEARNING_RATE = "--learning-rate"
    EPOCHS = "--epochs"
    WARMUP_EPOCHS = "--warmup-epochs"
    STRENGTH = "--strength"
    WORKERS = "--workers"
    SHORT_SIDE = "--short-side"


# Calibrated on the runs of tests/training/test_verdict.py (a small network trained for 210 steps
# in each state) unless another reason is given.
MIN_STEPS = 200  # a usual warm-up is hardly over
# Of fewer held-out images a share is uncertain by 10 points and more (two standard errors at 10 %).
ENOUGH_IMAGES = 36
# Constant output gives 0 and unrelated positives 0.02 .. 0.04. Untrained networks are as narrow
# (0.02), but their views match; healthy runs leave this range within 60 steps (0.89).
COLLAPSED_SPREAD = 0.05
CONSTANT_SPREAD = 1e-3  # what rounding leaves of a constant output, with room
CHANCE_LOSS = 0.005  # identical rows give ln C exactly; leaves room for rounding in half precision
UNMATCHED_LOSS = 0.02  # random rows lie 1 / (2 d t^2) above ln C
UNMATCHED_HITS = 3.0  # hits per n; random rows give 1, and 3 or fewer in 98 % of samples (Poisson)
RANK_SHARE = 0.5  # of the highest rank so far, the untrained network's included
RANK_REPORTS = 3  # reports over which the rank has to fall
LONE_RANK = 1.5  # one direction gives 1.0, two equal ones 2.0
SAME_PARAMETERS = 1e-6  # |change| / |parameters|; one float32 rounding is 6e-8
# The same, and nothing gained. Runs of 40 to 240 steps at usual rates came to 0.2 .. 0.4, at a rate
# of 1,000 to 3,000 (AdamW) and 7,000 (SGD).
RAN_AWAY = 100.0
GAINED_ERRORS = 2.0  # standard errors of a share of n images
# Share of the way from chance to floor that counts although views match no more often: a diverging
# run got 0.13 from spreading its embeddings alone, a healthy one 0.42.
GAINED_POSITION = 0.25
GAINED_POSITION_CLASSES = 0.05  # with labels, views of one image need not match more often
MOVED_POSITION = 0.02  # between two reports; settling BatchNorm statistics alone moved it by 0.01
IDENTICAL_VIEWS = 0.99
SHORTCUT_POSITION = 0.9
SHORTCUT_RETRIEVAL = 0.99
SHORTCUT_CUE = 0.9
LONG_BEFORE_END = 0.5  # share of the planned steps
FLAT_LOSS = 0.005  # relative change per report
MOVING = 0.02  # relative change per report


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run has come to: one sentence, at most two causes, one remedy ("" where none)."""

    verdict: str
    sentence: str
    causes: tuple[str, ...]
    remedy: str
    step: int

    @property
    def exit_code(self) -> int:
        """0 where training may go on, else the code of the verdict (module docstring)."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, str | int | list[str]]:
        """The content of verdict.json."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "causes": list(self.causes),
            "remedy": self.remedy,
            "step": self.step,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What a rule may look at: the reports by step, the first of them untrained."""

    reports: tuple[HealthFigures, ...]
    steps_done: int
    steps_planned: int
    parameter_change: float | None
    classes: int
    accuracies: tuple[float, float] | None = None

    @property
    def untrained(self) -> HealthFigures:
        return self.reports[0]

    @property
    def now(self) -> HealthFigures:
        return self.reports[-1]

    def says(self, verdict: str, sentence: str, *causes: str, remedy: str = "") -> Verdict:
        return Verdict(
            verdict=verdict, sentence=sentence, causes=causes, remedy=remedy, step=self.steps_done
        )


Rule = Callable[[RunState], Verdict | None]


def verdict(
    history: Mapping[int, HealthFigures],
    *,
    steps_done: int,
    steps_planned: int,
    parameter_change: float | None = None,
    classes: int = 0,
    accuracies: tuple[float, float] | None = None,
) -> Verdict:
    """The verdict on a run.

    ``history`` maps a step to the figures measured after it and holds step 0, the untrained
    network (else InvalidValue). ``parameter_change`` is |now - start| / |start| over all trained
    parameters, None where unknown. ``classes`` is the number of classes that a supervised
    objective draws together (its rank may rightly fall to that), 0 without labels. ``accuracies``
    are those of neighbors, untrained and now, by which such an objective may be seen to learn.
    """
    if 0 not in history:
        raise InvalidValue(
            "The health history has no figures of step 0, the untrained network, to compare with; "
            "measure once before training."
        )
    case = RunState(
        reports=tuple(history[step] for step in sorted(history) if step <= steps_done),
        steps_done=steps_done,
        steps_planned=steps_planned,
        parameter_change=parameter_change,
        classes=classes,
        accuracies=accuracies,
    )
    found = next(found for rule in RULES if (found := rule(case)) is not None)
    if found.verdict not in {"learning", "at chance"} or case.now.images >= ENOUGH_IMAGES:
        return found
    caveat = f"Only {case.now.images} held-out images say so, which is few."
    return replace(found, sentence=f"{found.sentence} {caveat}")


def too_few_steps(case: RunState) -> Verdict | None:
    """Before the first report that can be judged."""
    if case.steps_done >= MIN_STEPS and len(case.reports) > 1:
        return None
    return case.says(
        "too early",
        f"Too early to judge: {case.steps_done:,} of {case.steps_planned:,} steps are done and "
        f"{MIN_STEPS} are needed, with a report after them.",
        remedy=f"Raise {Option.EPOCHS}."
        if case.steps_planned < MIN_STEPS
        else "Let the run go on.",
    )


def not_finite(case: RunState) -> Verdict | None:
    """Embeddings that are no numbers."""
    if case.now.finite:
        return None
    return case.says(
        "collapsed",
        "Diverged: the network's embeddings of the held-out images are no longer finite numbers.",
        "The learning rate is too high, or its warm-up too short.",
        remedy=f"Start again with a third of the {Option.LEARNING_RATE}.",
    )


def ran_away(case: RunState) -> Verdict | None:
    """Parameters far from where they began, for nothing."""
    change = case.parameter_change
    if change is None or len(case.reports) < 2 or not change >= RAN_AWAY or _has_gained(case):
        return None
    return case.says(
        "collapsed",
        f"Diverged: the parameters have moved by {change:,.0f} times their length and the network "
        f"does no better than untrained: {_retrieval(case)}; {_loss(case)}.",
        "The learning rate is too high, or its warm-up too short.",
        remedy=f"Start again with a tenth of the {Option.LEARNING_RATE}, or the recipe's own.",
    )


def diverged(reason: str, step: int) -> Verdict:
    """The verdict on a run that was given up after ``step`` steps for ``reason``."""
    return Verdict(
        verdict="collapsed",
        sentence=f"Diverged and given up at step {step:,}: {reason}.",
        causes=("The learning rate is too high, or its warm-up too short.",),
        remedy=f"Start again with a tenth of the {Option.LEARNING_RATE}, or the recipe's own.",
        step=step,
    )


def same_embedding(case: RunState) -> Verdict | None:
    """One embedding for all. An untrained network may be narrow too, but its views still match."""
    now, before = case.now, case.untrained
    at_chance = abs(now.loss / now.chance_level - 1) <= CHANCE_LOSS
    shrunk = now.feature_std_z < RANK_SHARE * before.feature_std_z
    if not (now.feature_std_z <= COLLAPSED_SPREAD and at_chance and (_unmatched(now) or shrunk)):
        return None
    seen = f"Collapsed: every image gets the same embedding: {_spread(case)}; {_loss(case)}."
    too_fast = "The learning rate was too high at the start, without enough warm-up."
    if now.feature_std_z <= CONSTANT_SPREAD:
        return case.says(
            "collapsed",
            seen,
            "A layer of the encoder or the head is dead: it gives the same output for every image.",
            too_fast,
            remedy=f"Start again with a longer warm-up: {Option.WARMUP_EPOCHS} 10.",
        )
    return case.says(
        "collapsed",
        seen,
        "The two views of an image share nothing: they are too strong, or not of the same image.",
        too_fast,
        remedy=f"Look at `coview views`, then weaken the views: {Option.STRENGTH} 0.5.",
    )


def few_directions(case: RunState) -> Verdict | None:
    """Rank lost over several reports, or at once where one direction is all that is left."""
    for tap, name in (("z", "embeddings z"), ("h", "features h")):
        ranks = [float(getattr(report, f"rank_{tap}")) for report in case.reports]
        if _one_direction(case, ranks) or _losing_rank(case, ranks):
            width = min(case.now.images, getattr(case.now, f"width_{tap}"))
            return case.says(
                "dimensional collapse",
                f"Partly collapsed: the {name} use about {ranks[-1]:.1f} of {width} directions "
                f"(untrained {ranks[0]:.1f}); {_retrieval(case)}.",
                "The learning rate is too high for this batch.",
                "The views are too strong, so that little is left that two of them share.",
                remedy=f"Start again with a third of the {Option.LEARNING_RATE}.",
            )
    return None


def same_parameters(case: RunState) -> Verdict | None:
    """No parameter moved, and not because a dead layer gives no gradient."""
    if case.parameter_change is None or case.parameter_change >= SAME_PARAMETERS:
        return None
    if case.now.feature_std_z <= CONSTANT_SPREAD:
        return None
    return case.says(
        "unchanged",
        "Nothing has changed since initialization, the encoder is still the untrained network: "
        f"parameters moved by {case.parameter_change:.1e} of their length; {_retrieval(case)}.",
        "The learning rate is zero or far too small.",
        "The parameters are frozen, or no gradient reaches them.",
        remedy=f"Raise the {Option.LEARNING_RATE}.",
    )


def same_views(case: RunState) -> Verdict | None:
    """A task that every network solves."""
    if case.now.identical_views < IDENTICAL_VIEWS:
        return None
    return case.says(
        "shortcut",
        f"Shortcut: the two views are identical for {case.now.identical_views:.0%} of the images, "
        f"so that matching them teaches nothing; {_retrieval(case)}.",
        "The augmentation is switched off or has no strength.",
        "The images are so uniform that crops and colors do not change them.",
        remedy=f"Make the views differ: {Option.STRENGTH} 1.",
    )


def cue_alone(case: RunState) -> Verdict | None:
    """One cue of the pixels does what the network does."""
    now = case.now
    cue, score = max(
        ("the color histogram", now.color_instance_accuracy),
        ("an 8 x 8 thumbnail", now.thumbnail_instance_accuracy),
        key=lambda pair: pair[1],
    )
    solved = now.position >= SHORTCUT_POSITION and now.instance_accuracy_z >= SHORTCUT_RETRIEVAL
    if not (solved and score >= SHORTCUT_CUE):
        return None
    return case.says(
        "shortcut",
        f"Shortcut suspected: {cue} alone finds {score:.0%} of the pairs, so that "
        f"nothing else had to be learned: {_retrieval(case)}.",
        "The views are too weak to hide the cue.",
        "Borders, watermarks or sensor settings give the image away.",
        remedy=f"Make the views stronger: {Option.STRENGTH} 1.",
    )


def unmatched_views(case: RunState) -> Verdict | None:
    """Embeddings that differ, without any relation between two views of one image."""
    now = case.now
    if not (_unmatched(now) and now.loss >= (1 - UNMATCHED_LOSS) * now.chance_level):
        return None
    return case.says(
        "at chance",
        "At chance: images get different embeddings, but two views of one image do not match: "
        f"{_retrieval(case)}; {_spread(case)}; {_loss(case)}.",
        "The views are so strong that two of one image have nothing in common.",
        "Positives are mis-ordered: view 1 and view 2 of a batch are not of the same images.",
        remedy=f"Look at `coview views`, then weaken the views: {Option.STRENGTH} 0.5.",
    )


def improving_early(case: RunState) -> Verdict | None:
    """Far from the end of the plan, and better than at the report before."""
    if case.steps_done >= LONG_BEFORE_END * case.steps_planned:
        return None
    before, now = case.reports[-2:]
    if not (_matches_more(before, now) or now.position - before.position > MOVED_POSITION):
        return None
    return case.says(
        "too early",
        f"Too early to stop: {case.steps_done:,} of {case.steps_planned:,} steps are done and the "
        f"figures still improve: {_retrieval(case)}; {_loss(case)}.",
        remedy="Let the run go on (`coview resume`).",
    )


def nothing_gained(case: RunState) -> Verdict | None:
    """No better than the untrained network, whatever the parameters did."""
    if _has_gained(case):
        return None
    return case.says(
        "unchanged",
        "Nothing was gained since initialization, the network does no better than untrained: "
        f"{_retrieval(case)}; {_ranks(case)}; {_loss(case)}.",
        "The learning rate is far too small, or so large that each step undoes the last.",
        "The run is too short for this batch and schedule.",
        remedy=f"Try another {Option.LEARNING_RATE}: a third, then three times this one.",
    )


def learning(case: RunState) -> Verdict:
    """Better than untrained; says so also where the loss alone would look finished."""
    facts = f"{_retrieval(case)}; {_ranks(case)}; {_loss(case)}"
    if _flat_but_moving(case.reports[-2], case.now):
        return case.says(
            "learning",
            f"Still learning although the loss is flat: stopping is not advised: {facts}.",
            remedy=f"Go on, with more {Option.EPOCHS} if the plan ends here.",
        )
    return case.says("learning", f"Learning: {facts}.")


RULES: tuple[Rule, ...] = (
    not_finite,
    ran_away,
    too_few_steps,
    same_parameters,
    same_embedding,
    same_views,
    few_directions,
    unmatched_views,
    cue_alone,
    improving_early,
    nothing_gained,
    learning,
)


def _unmatched(figures: HealthFigures) -> bool:
    return figures.instance_accuracy_z * figures.images <= UNMATCHED_HITS


def _has_gained(case: RunState) -> bool:
    before, now = case.untrained, case.now
    if case.classes and case.accuracies is not None:
        # A narrow untrained network is nearer to the loss of equal embeddings than one that has
        # begun to tell classes apart, so that the loss alone does not show it.
        first, last = case.accuracies
        if last - first > GAINED_ERRORS * _error(first, now.images):
            return True
    step = GAINED_POSITION_CLASSES if case.classes else GAINED_POSITION
    return _matches_more(before, now) or now.position - before.position > step


def _matches_more(before: HealthFigures, now: HealthFigures) -> bool:
    """Whether views find each other more often than chance explains, without a worse loss."""
    gained = now.instance_accuracy_z - before.instance_accuracy_z
    enough = gained > GAINED_ERRORS * _error(before.instance_accuracy_z, now.images)
    return enough and now.position >= before.position


def _error(share: float, images: int) -> float:
    """The standard error of a share of so many images."""
    return math.sqrt(max(share * (1 - share), 1 / images) / images)


def _one_direction(case: RunState, ranks: list[float]) -> bool:
    return ranks[-1] <= LONE_RANK and case.now.feature_std_z > COLLAPSED_SPREAD


def _losing_rank(case: RunState, ranks: list[float]) -> bool:
    """Below half of the best, falling from report to report, and for no better match than there."""
    if len(ranks) <= RANK_REPORTS:
        return False
    falling = all(later < earlier for earlier, later in pairwise(ranks[-RANK_REPORTS - 1 :]))
    low = ranks[-1] < RANK_SHARE * max(ranks)
    of_classes = case.classes > 0 and ranks[-1] >= RANK_SHARE * case.classes
    # Features that gather while their views match better than at their widest are learning.
    widest = ranks.index(max(ranks))
    worse = case.now.instance_accuracy_z <= case.reports[widest].instance_accuracy_z
    return falling and low and worse and not of_classes


def _flat_but_moving(before: HealthFigures, now: HealthFigures) -> bool:
    # Ranks only: of a few hundred images, one more match is a change of some per cent already.
    moves = [
        abs(getattr(now, name) / max(getattr(before, name), 1e-9) - 1)
        for name in ("rank_h", "rank_z")
    ]
    return abs(now.loss / before.loss - 1) < FLAT_LOSS and max(moves) > MOVING


def _retrieval(case: RunState) -> str:
    now, before = case.now.instance_accuracy_z, case.untrained.instance_accuracy_z
    return (
        f"{now:.1%} of views find their pair (untrained {before:.1%}, "
        f"chance {1 / case.now.images:.1%})"
    )


def _spread(case: RunState) -> str:
    return f"spread {case.now.feature_std_z:.2f} (untrained {case.untrained.feature_std_z:.2f})"


def _ranks(case: RunState) -> str:
    now, before = case.now, case.untrained
    return (
        f"rank of h {now.rank_h:.0f} of {min(now.width_h, now.images)} "
        f"(untrained {before.rank_h:.0f})"
    )


def _loss(case: RunState) -> str:
    now, before = case.now, case.untrained
    return (
        f"loss {now.loss:.2f} (untrained {before.loss:.2f}, chance {now.chance_level:.2f}, "
        f"practical floor {now.lower_bound:.2f})"
    )
