"""Has it learned anything? One diagnosis in plain words, from the health figures of a run.

:data:`coview.core.figures.DIAGNOSES` lists the labels with their meaning and exit code. The first
rule of :data:`RULES` that applies gives the diagnosis. The rules hold for set objectives (NT-Xent,
SupCon and their relatives), whose chance level and lower bound are measured with the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from coview.core.errors import InvalidValue
from coview.core.figures import DIAGNOSES
from coview.diagnosis.health import HealthFigures

# Calibrated on the runs of tests/diagnosis/test_rules.py (a small network trained for 210 steps in
# each state) unless another reason is given.
MIN_STEPS = 200  # a usual warm-up takes about as long
# With fewer held-out images two standard errors of a share of 10 % exceed 10 points.
ENOUGH_IMAGES = 36
# A constant output gives 0, unrelated positives 0.02 .. 0.04. Untrained networks are as narrow
# (0.02), but their views match; healthy runs leave this range within 60 steps (0.89).
COLLAPSED_STD = 0.05
CONSTANT_STD = 1e-3  # above the rounding errors of a constant output
CHANCE_LOSS = 0.005  # identical rows give ln C exactly; above the rounding of half precision
UNMATCHED_LOSS = 0.02  # random rows lie 1 / (2 d t^2) above ln C
UNMATCHED_HITS = 3.0  # hits per n; random rows give 1, and 3 or fewer in 98 % of samples (Poisson)
RANK_SHARE = 0.5  # of the highest rank so far, the untrained network's included
RANK_REPORTS = 3  # reports over which the rank must fall
ONE_DIRECTION_RANK = 1.5  # one direction gives 1.0, two equal ones 2.0
SAME_PARAMETERS = 1e-6  # |change| / |parameters|; one float32 rounding is 6e-8
# |change| / |parameters| of a diverged run. Runs of 40 to 240 steps at usual learning rates gave
# 0.2 .. 0.4; runs at a learning rate of 1,000 gave 3,000 (AdamW) and 7,000 (SGD).
DIVERGED_CHANGE = 100.0
GAINED_ERRORS = 2.0  # standard errors of a share of n images
# Gain of HealthFigures.position that counts although views match no more often: a diverging run
# gained 0.13 because its embeddings became less alike, a healthy one 0.42.
GAINED_POSITION = 0.25
GAINED_POSITION_CLASSES = 0.05  # with labels, views of one image need not match more often
MOVED_POSITION = 0.02  # between two reports; BatchNorm statistics alone moved it by 0.01
IDENTICAL_VIEWS = 0.99
SHORTCUT_POSITION = 0.9
SHORTCUT_NETWORK_ACCURACY = 0.99
SHORTCUT_CUE_ACCURACY = 0.9
EARLY = 0.5  # share of the planned steps
FLAT_LOSS = 0.005  # relative change per report
MOVING_RANK = 0.02  # relative change per report
TOO_FAST = "The learning rate is too high, or its warm-up too short."


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A key of ``DIAGNOSES``, one sentence, at most two causes, one remedy ("" where none)."""

    label: str
    sentence: str
    causes: tuple[str, ...]
    remedy: str
    step: int

    @property
    def exit_code(self) -> int:
        """The exit code of the label: 0 where training may go on, else 3 to 7."""
        return DIAGNOSES[self.label].exit_code

    def to_json(self) -> dict[str, str | int | list[str]]:
        """The content of verdict.json."""
        return {**asdict(self), "causes": list(self.causes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The input of a rule: the reports in order of steps, the first of the untrained network."""

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

    def diagnosis(self, label: str, sentence: str, *causes: str, remedy: str = "") -> Diagnosis:
        return Diagnosis(
            label=label, sentence=sentence, causes=causes, remedy=remedy, step=self.steps_done
        )


Rule = Callable[[RunState], Diagnosis | None]


def diagnose(
    history: Mapping[int, HealthFigures], *, steps_done: int, steps_planned: int,
    parameter_change: float | None = None, classes: int = 0,
    accuracies: tuple[float, float] | None = None,
) -> Diagnosis:  # fmt: skip
    """The diagnosis of a run after ``steps_done`` of ``steps_planned`` steps.

    ``history`` maps a step to the figures measured after it. Raises InvalidValue where it lacks
    step 0, the untrained network. ``parameter_change`` is |now - start| / |start| over all trained
    parameters, None where unknown. ``classes`` is the number of classes of a supervised objective,
    whose rank may fall to that number; 0 without labels. ``accuracies`` are the kNN accuracies of
    the untrained and of the present network, which count for a supervised objective.
    """
    if 0 not in history:
        raise InvalidValue(
            "The health history has no figures of step 0, the untrained network, to compare with; "
            "measure once before training."
        )
    state = RunState(
        reports=tuple(history[step] for step in sorted(history) if step <= steps_done),
        steps_done=steps_done, steps_planned=steps_planned, parameter_change=parameter_change,
        classes=classes, accuracies=accuracies,
    )  # fmt: skip
    diagnosis = next(result for rule in RULES if (result := rule(state)) is not None)
    if diagnosis.label not in {"learning", "at chance"} or state.now.images >= ENOUGH_IMAGES:
        return diagnosis
    caveat = f"This rests on {state.now.images} held-out images, which are few."
    return replace(diagnosis, sentence=f"{diagnosis.sentence} {caveat}")


def too_few_steps(state: RunState) -> Diagnosis | None:
    """Before the first report after 200 steps."""
    if state.steps_done >= MIN_STEPS and len(state.reports) > 1:
        return None
    return state.diagnosis(
        "too early",
        f"Too early to judge: {state.steps_done:,} of {state.steps_planned:,} steps are done and "
        f"{MIN_STEPS} are needed, with a report after them.",
        remedy="Raise `epochs`." if state.steps_planned < MIN_STEPS else "Let the run continue.",
    )


def not_finite(state: RunState) -> Diagnosis | None:
    """Embeddings or a loss that are not finite."""
    if state.now.finite:
        return None
    return state.diagnosis(
        "collapsed",
        "Diverged: the network's embeddings of the held-out images are no longer finite numbers.",
        TOO_FAST,
        remedy="Start again with a third of the `learning_rate`.",
    )


def far_parameters(state: RunState) -> Diagnosis | None:
    """Parameters far from their initial values, without any gain."""
    change = state.parameter_change
    if (
        change is None
        or len(state.reports) < 2
        or not change >= DIVERGED_CHANGE
        or _has_gained(state)
    ):
        return None
    return state.diagnosis(
        "collapsed",
        f"Diverged: the parameters have moved by {change:,.0f} times their length and the network "
        f"is no better than untrained: {_accuracy(state)}; {_loss(state)}.",
        TOO_FAST,
        remedy="Start again with a tenth of the `learning_rate`, or with the recipe's default.",
    )


def diverged(reason: str, step: int) -> Diagnosis:
    """The diagnosis of a run that stopped after ``step`` steps for ``reason``."""
    return Diagnosis(
        label="collapsed",
        sentence=f"Diverged and stopped at step {step:,}: {reason}.",
        causes=(TOO_FAST,),
        remedy="Start again with a tenth of the `learning_rate`, or with the recipe's default.",
        step=step,
    )


def same_embedding(state: RunState) -> Diagnosis | None:
    """Equal embeddings. An untrained network may be as narrow, but its views still match."""
    now, before = state.now, state.untrained
    at_chance = abs(now.loss / now.chance_level - 1) <= CHANCE_LOSS
    shrunk = now.feature_std_z < RANK_SHARE * before.feature_std_z
    if not (now.feature_std_z <= COLLAPSED_STD and at_chance and (_unmatched(now) or shrunk)):
        return None
    sentence = f"Collapsed: every image gets the same embedding: {_std(state)}; {_loss(state)}."
    if now.feature_std_z <= CONSTANT_STD:
        return state.diagnosis(
            "collapsed", sentence,
            "A layer of the encoder or the head is dead: its output is the same for every image.",
            TOO_FAST, remedy="Start again with a longer warm-up: set `warmup_epochs` to 10.",
        )  # fmt: skip
    return state.diagnosis(
        "collapsed",
        sentence,
        "The two views of an image share nothing: they are too strong, or not of the same image.",
        TOO_FAST,
        remedy="Look at the views (coview views), then weaken them: set `jitter_strength` to 0.5.",
    )


def few_directions(state: RunState) -> Diagnosis | None:
    """A rank that fell over several reports, or a single direction."""
    for layer, name in (("z", "embeddings z"), ("h", "features h")):
        ranks = [float(getattr(report, f"rank_{layer}")) for report in state.reports]
        if _one_direction(state, ranks) or _losing_rank(state, ranks):
            width = min(state.now.images, getattr(state.now, f"width_{layer}"))
            return state.diagnosis(
                "dimensional collapse",
                f"Dimensional collapse: the {name} use about {ranks[-1]:.1f} of {width} directions "
                f"(untrained {ranks[0]:.1f}); {_accuracy(state)}.",
                "The learning rate is too high for this batch.",
                "The views are so strong that two of one image share little.",
                remedy="Start again with a third of the `learning_rate`.",
            )
    return None


def same_parameters(state: RunState) -> Diagnosis | None:
    """Parameters that did not change, in a network without a dead layer."""
    if state.parameter_change is None or state.parameter_change >= SAME_PARAMETERS:
        return None
    if state.now.feature_std_z <= CONSTANT_STD:
        return None
    return state.diagnosis(
        "unchanged",
        "Nothing has changed since initialization: the parameters moved by "
        f"{state.parameter_change:.1e} of their length; {_accuracy(state)}.",
        "The learning rate is zero or far too small.",
        "The parameters are frozen, or no gradient reaches them.",
        remedy="Raise `learning_rate`.",
    )


def same_views(state: RunState) -> Diagnosis | None:
    """Two views with the same pixels, which every network matches."""
    if state.now.identical_views < IDENTICAL_VIEWS:
        return None
    return state.diagnosis(
        "shortcut",
        f"Shortcut: the two views are identical for {state.now.identical_views:.0%} of the images, "
        f"so matching them teaches nothing; {_accuracy(state)}.",
        "The augmentation is off or too weak.",
        "The images are so uniform that crops and colors do not change them.",
        remedy="Make the views differ: set `jitter_strength` to 1.",
    )


def cue_alone(state: RunState) -> Diagnosis | None:
    """A simple cue in the pixels that matches the views as well as the network does."""
    now = state.now
    cue, score = max(
        ("the color histogram", now.color_instance_accuracy),
        ("an 8 x 8 thumbnail", now.thumbnail_instance_accuracy),
        key=lambda pair: pair[1],
    )
    solved = (
        now.position >= SHORTCUT_POSITION and now.instance_accuracy_z >= SHORTCUT_NETWORK_ACCURACY
    )
    if not (solved and score >= SHORTCUT_CUE_ACCURACY):
        return None
    return state.diagnosis(
        "shortcut",
        f"Shortcut suspected: {cue} alone matches {score:.0%} of the views, so the network may "
        f"have learned nothing else: {_accuracy(state)}.",
        "The views are too weak to hide the cue.",
        "Borders, watermarks or sensor settings identify the image.",
        remedy="Make the views stronger: set `jitter_strength` to 1.",
    )


def unmatched_views(state: RunState) -> Diagnosis | None:
    """Embeddings that differ, but views of one image that do not match."""
    now = state.now
    if not (_unmatched(now) and now.loss >= (1 - UNMATCHED_LOSS) * now.chance_level):
        return None
    return state.diagnosis(
        "at chance",
        "At chance: images get different embeddings, but two views of one image do not match: "
        f"{_accuracy(state)}; {_std(state)}; {_loss(state)}.",
        "The views are so strong that two of one image have nothing in common.",
        "Positives are mis-ordered: view 1 and view 2 of a batch are not of the same images.",
        remedy="Look at the views (coview views), then weaken them: set `jitter_strength` to 0.5.",
    )


def improving_early(state: RunState) -> Diagnosis | None:
    """In the first half of the run, and better than at the previous report."""
    if state.steps_done >= EARLY * state.steps_planned:
        return None
    before, now = state.reports[-2:]
    if not (_matches_more(before, now) or now.position - before.position > MOVED_POSITION):
        return None
    return state.diagnosis(
        "too early",
        f"Too early to stop: {state.steps_done:,} of {state.steps_planned:,} steps are done and "
        f"the figures still improve: {_accuracy(state)}; {_loss(state)}.",
        remedy="Let the run continue (coview resume).",
    )


def nothing_gained(state: RunState) -> Diagnosis | None:
    """No better than the untrained network, although the parameters changed."""
    if _has_gained(state):
        return None
    return state.diagnosis(
        "unchanged",
        "Nothing was gained since initialization, the network is no better than untrained: "
        f"{_accuracy(state)}; {_ranks(state)}; {_loss(state)}.",
        "The learning rate is far too small, or so large that each step undoes the last.",
        "The run is too short for this batch and schedule.",
        remedy="Try another `learning_rate`: a third, then three times the present one.",
    )


def learning(state: RunState) -> Diagnosis:
    """Better than untrained; the sentence warns where only the loss is flat."""
    facts = f"{_accuracy(state)}; {_ranks(state)}; {_loss(state)}"
    if _flat_but_moving(state.reports[-2], state.now):
        return state.diagnosis(
            "learning",
            f"Still learning although the loss is flat, do not stop yet: {facts}.",
            remedy="Continue, and raise `epochs` if the run ends here.",
        )
    return state.diagnosis("learning", f"Learning: {facts}.")


RULES: tuple[Rule, ...] = (
    not_finite, far_parameters, too_few_steps, same_parameters, same_embedding, same_views,
    few_directions, unmatched_views, cue_alone, improving_early, nothing_gained, learning,
)  # fmt: skip


def _unmatched(figures: HealthFigures) -> bool:
    return figures.instance_accuracy_z * figures.images <= UNMATCHED_HITS


def _has_gained(state: RunState) -> bool:
    before, now = state.untrained, state.now
    if state.classes and state.accuracies is not None:
        # The loss of a narrow untrained network is near that of equal embeddings. It may rise
        # while a network begins to separate classes, so the loss alone does not show learning.
        first, last = state.accuracies
        if last - first > GAINED_ERRORS * _error(first, now.images):
            return True
    step = GAINED_POSITION_CLASSES if state.classes else GAINED_POSITION
    return _matches_more(before, now) or now.position - before.position > step


def _matches_more(before: HealthFigures, now: HealthFigures) -> bool:
    """Whether instance accuracy rose by two standard errors and the loss is no worse."""
    gained = now.instance_accuracy_z - before.instance_accuracy_z
    enough = gained > GAINED_ERRORS * _error(before.instance_accuracy_z, now.images)
    return enough and now.position >= before.position


def _error(share: float, images: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / images) / images)


def _one_direction(state: RunState, ranks: list[float]) -> bool:
    return ranks[-1] <= ONE_DIRECTION_RANK and state.now.feature_std_z > COLLAPSED_STD


def _losing_rank(state: RunState, ranks: list[float]) -> bool:
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


def _flat_but_moving(before: HealthFigures, now: HealthFigures) -> bool:
    # Ranks only: with a few hundred images one more match is already a change of some per cent.
    moves = [
        abs(getattr(now, name) / max(getattr(before, name), 1e-9) - 1)
        for name in ("rank_h", "rank_z")
    ]
    return abs(now.loss / before.loss - 1) < FLAT_LOSS and max(moves) > MOVING_RANK


def _accuracy(state: RunState) -> str:
    now, before = state.now.instance_accuracy_z, state.untrained.instance_accuracy_z
    return (
        f"instance accuracy {now:.1%} (untrained {before:.1%}, chance {1 / state.now.images:.1%})"
    )


def _std(state: RunState) -> str:
    now, before = state.now.feature_std_z, state.untrained.feature_std_z
    return f"feature std of z {now:.2f} (untrained {before:.2f})"


def _ranks(state: RunState) -> str:
    now, before = state.now, state.untrained
    return (
        f"rank of h {now.rank_h:.0f} of {min(now.width_h, now.images)} "
        f"(untrained {before.rank_h:.0f})"
    )


def _loss(state: RunState) -> str:
    now, before = state.now, state.untrained
    return (
        f"loss {now.loss:.2f} (untrained {before.loss:.2f}, chance level {now.chance_level:.2f}, "
        f"lower bound {now.lower_bound:.2f})"
    )
