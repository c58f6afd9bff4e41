"""Has it learned anything? One diagnosis in plain words, from the health figures of a run.

:data:`coview.core.figures.DIAGNOSES` lists the labels with their meaning and exit code. The first
rule of :data:`RULES` that applies gives the diagnosis. The rules hold for set objectives (NT-Xent,
SupCon and their relatives), whose chance level and lower bound are measured with the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from coview.core.errors import InvalidValue
from coview.diagnosis.evidence import (
    MATCHED,
    has_gained,
    has_no_room,
    losing_rank,
    matches_more,
    one_direction,
)
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.state import Diagnosis, NeighborAccuracy, RunState
from coview.diagnosis.words import all_figures, beside_pixels, comparison
from coview.planning.defaults import MIN_STEPS

# Calibrated on the runs of tests/diagnosis/test_rules.py (a small network trained for 210 steps in
# each state) and of benchmarks/verdicts.py unless another reason is given.
# With fewer held-out images two standard errors of a share of 10 % exceed 10 points.
ENOUGH_IMAGES = 36
# A constant output gives 0, unrelated positives 0.02 .. 0.05. Networks without BatchNorm at their
# output are as narrow before training (0.02), but their views match.
COLLAPSED_STD = 0.06
UNMATCHED_HITS = 3.0  # hits per n; random rows give 1, and 3 or fewer in 98 % of samples (Poisson)
CONSTANT_STD = 1e-3  # above the rounding errors of a constant output
# Mean cosine of two images: of a network that collapses 0.5 and more, of an untrained one with
# BatchNorm at its output 0.03. Such a run has a separation of 0.1 .. 0.2 on its way down.
ALIKE, GROWN_ALIKE, HARDLY_MATCHED = 0.5, 0.25, 0.25
SAME_PARAMETERS = 1e-6  # |change| / |parameters|; one float32 rounding is 6e-8
BARELY_CHANGED = 0.01  # |change| / |parameters|; 0.2 and more after 200 steps of a usual run
# |change| / |parameters| of a diverged run. Runs of 40 to 240 steps at usual learning rates gave
# 0.2 .. 0.4; runs at a learning rate of 1,000 gave 3,000 (AdamW) and 7,000 (SGD).
DIVERGED_CHANGE = 100.0
MOVED_POSITION = 0.02  # between two reports; BatchNorm statistics alone moved it by 0.01
IDENTICAL_VIEWS = 0.99
COPIED_IMAGES = 0.5
FEW_COPIES = 0.01  # a share that moves a figure by a point at most
SHORTCUT_CUE = 0.5  # share of the pairs that a cue must find to be called a shortcut
SHORTCUT_SHARE = 0.9  # of the pairs that the network finds
EARLY = 0.5  # share of the planned steps
FLAT_LOSS = 0.005  # relative change per report
MOVING_RANK = 0.02  # relative change per report
FLAT_OBJECTIVE = 0.05  # (chance level - lower bound) / chance level; 0.02 at temperature 10
STEEP_OBJECTIVE = 2.0  # random loss / chance level; 1.1 at temperature 0.1, 5 at 0.01
TOO_FAST = "The learning rate is too high, or its warm-up too short."


Rule = Callable[[RunState], Diagnosis | None]


def diagnose(
    history: Mapping[int, HealthFigures], *, steps_done: int, steps_planned: int,
    parameter_change: float | None = None, classes: int = 0,
    neighbors: NeighborAccuracy | None = None, unguarded: str = "", from_weights: bool = False,
) -> Diagnosis:  # fmt: skip
    """The diagnosis of a run after ``steps_done`` of ``steps_planned`` steps.

    ``history`` maps a step to the figures measured after it. Raises InvalidValue where it lacks
    step 0, the network before training. ``parameter_change`` is |now - start| / |start| over all
    trained parameters, None where unknown. ``classes`` is the number of classes of a supervised
    objective, whose rank may fall to that number; 0 without labels. ``neighbors`` are kNN
    accuracies: of a supervised objective they alone say whether it has learned. ``unguarded`` names
    what a method without negatives lacks against collapse ("stop-gradient", "predictor"), "" for
    others.
    ``from_weights``: the run began with trained weights, so that step 0 is no untrained network.
    """
    if 0 not in history:
        raise InvalidValue(
            "The health history has no figures of step 0, the network before training, to "
            "compare with; "
            "measure once before training."
        )
    measured = [step for step in sorted(history) if step <= steps_done]
    state = RunState(
        reports=tuple(history[step] for step in measured),
        report_step=measured[-1], steps_done=steps_done, steps_planned=steps_planned,
        parameter_change=parameter_change, classes=classes, neighbors=neighbors,
        unguarded=unguarded, from_weights=from_weights,
    )  # fmt: skip
    diagnosis = next(result for rule in RULES if (result := rule(state)) is not None)
    diagnosis = replace(diagnosis, details=all_figures(state))
    return replace(diagnosis, sentence=" ".join([diagnosis.sentence, *_caveats(state, diagnosis)]))


def _caveats(state: RunState, diagnosis: Diagnosis) -> Iterator[str]:
    """Why the figures say less than they seem to."""
    if diagnosis.label in {"learning", "at chance"} and state.now.images < ENOUGH_IMAGES:
        yield f"This rests on {state.now.images} held-out images, which are few."
    copied = state.now.copied_images
    if diagnosis.label not in {"too early", "unusable data"} and copied > FEW_COPIES:
        yield (
            f"But {copied:.0%} of the held-out images are copies of other images, so that not all "
            "of them are unseen (coview doctor lists the copies)."
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


def nothing_to_compare(state: RunState) -> Diagnosis | None:
    """Images that are copies of each other, or labels that are all the same."""
    share = state.now.copied_images
    if share > COPIED_IMAGES:
        return state.diagnosis(
            "unusable data",
            f"Unusable data: {share:.0%} of the held-out images are copies of other images, so no "
            "figure can tell learning from memory.",
            "The same image is there many times.",
            remedy="Keep one of each image (coview doctor lists the copies), and add others.",
        )
    if state.classes == 1:
        return state.diagnosis(
            "unusable data",
            "Unusable data: all images have the same label, so there is nothing to tell apart.",
            "The labels are those of one folder, or of a column with one value.",
            remedy="Say where the labels are by `labels_from`, or learn without labels: simclr.",
        )
    return None


def far_parameters(state: RunState) -> Diagnosis | None:
    """Parameters far from their initial values, without any gain."""
    change = state.parameter_change
    if (
        change is None
        or len(state.reports) < 2
        or not change >= DIVERGED_CHANGE
        or has_gained(state)
    ):
        return None
    return state.diagnosis(
        "collapsed",
        f"Diverged: the parameters have moved by {change:,.0f} times their length, and the network "
        f"is no better than {_no_better_than(state)}. {comparison(state)}",
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


def too_few_steps(state: RunState) -> Diagnosis | None:
    """Before the first report after 200 steps."""
    if state.report_step >= MIN_STEPS:
        return None
    return state.diagnosis(
        "too early",
        f"Too early to judge: {state.steps_done:,} of {state.steps_planned:,} steps are done and "
        f"{MIN_STEPS} are needed before the first verdict.",
        remedy=more_steps(state.steps_planned)
        if state.steps_planned < MIN_STEPS
        else "Let the run continue.",
    )


def more_steps(steps: int) -> str:
    """What to do about a run of too few steps for a verdict.

    >>> more_steps(30)
    'Give more time (`epochs` or `budget`): a verdict needs 200 steps, 7 times as many.'
    """
    times = math.ceil(MIN_STEPS / max(1, steps))
    return (
        f"Give more time (`epochs` or `budget`): a verdict needs {MIN_STEPS} steps, "
        f"{times:,} times as many."
    )


def same_parameters(state: RunState) -> Diagnosis | None:
    """Parameters that hardly changed, in a network without a dead layer, and no gain."""
    change = state.parameter_change
    if change is None or change >= BARELY_CHANGED or state.now.feature_std_z <= CONSTANT_STD:
        return None
    if change >= SAME_PARAMETERS and has_gained(state):
        return None
    return state.diagnosis(
        "unchanged",
        "Nothing has changed since initialization: the parameters moved by "
        f"{change:.1e} of their length. {comparison(state)}",
        "The learning rate is zero or far too small.",
        "The parameters are frozen, or no gradient reaches them.",
        remedy="Raise `learning_rate`.",
    )


def unmatched_views(state: RunState) -> Diagnosis | None:
    """Views of one image that are no nearer than views of two.

    Where the embeddings of all images are alike the network has collapsed; a head that ends in
    BatchNorm keeps them apart in other directions than those of the images.
    """
    now = state.now
    if now.feature_std_z <= CONSTANT_STD:
        return state.diagnosis(
            "collapsed", "Collapsed: every image gets the same embedding.",
            "A layer of the encoder or the head is dead: its output is the same for every image.",
            TOO_FAST, remedy="Start again with a longer warm-up: set `warmup_epochs` to 10.",
        )  # fmt: skip
    alike, before = now.mean_negative_similarity, state.untrained.mean_negative_similarity
    narrow = now.feature_std_z <= COLLAPSED_STD and _hits(now) <= UNMATCHED_HITS
    sinking = alike >= ALIKE and alike - before > GROWN_ALIKE
    apart = now.separation > (HARDLY_MATCHED if narrow or sinking else MATCHED)
    if apart or has_gained(state):
        return None
    same = (
        "Collapsed: the embeddings of all images are nearly the same: two images have a mean "
        f"cosine of {alike:.2f} ({state.before} {before:.2f}), two views of one image "
        f"{now.mean_positive_similarity:.2f}."
    )
    if alike >= ALIKE and state.unguarded:
        return state.diagnosis(
            "collapsed", same,
            f"The method has no negatives and no {state.unguarded}, which would keep images apart.",
            remedy="Use the method as its paper has it, or one with negatives: simclr, moco.",
        )  # fmt: skip
    views = "The views are so strong that two of one image have nothing in common"
    weaken = "Look at the views (coview views), then weaken them: set `jitter_strength` to 0.5."
    if alike >= ALIKE:
        return state.diagnosis(
            "collapsed", same,
            f"{views}, or are not of the same image.", *_temperature_causes(state), TOO_FAST,
            remedy=weaken,
        )  # fmt: skip
    return state.diagnosis(
        "at chance",
        "At chance: images get different embeddings, but two views of one image are no more alike "
        "than views of two images.",
        *_temperature_causes(state),
        f"{views}.",
        "Positives are mis-ordered: view 1 and view 2 of a batch are not of the same images.",
        remedy=weaken,
    )


def few_directions(state: RunState) -> Diagnosis | None:
    """A rank that fell over several reports, or a single direction."""
    for layer, name in (("z", "embeddings z"), ("h", "features h")):
        ranks = [float(getattr(report, f"rank_{layer}")) for report in state.reports]
        if one_direction(state, ranks) or losing_rank(state, ranks):
            width = min(state.now.images, getattr(state.now, f"width_{layer}"))
            return state.diagnosis(
                "dimensional collapse",
                f"Dimensional collapse: the {name} use about {ranks[-1]:.1f} of {width} directions "
                f"({state.before} {ranks[0]:.1f}). {comparison(state)}",
                "The learning rate is too high for this batch.",
                "The views are so strong that two of one image share little.",
                remedy="Start again with a third of the `learning_rate`.",
            )
    return None


def same_views(state: RunState) -> Diagnosis | None:
    """Two views with the same pixels, which every network matches."""
    if state.now.identical_views < IDENTICAL_VIEWS:
        return None
    return state.diagnosis(
        "shortcut",
        f"Shortcut: the two views are identical for {state.now.identical_views:.0%} of the images, "
        f"so matching them teaches nothing. {comparison(state)}",
        "The augmentation is off or too weak.",
        "The images are so uniform that crops and colors do not change them.",
        remedy="Make the views differ: set `jitter_strength` to 1.",
    )


def cue_alone(state: RunState) -> Diagnosis | None:
    """A simple cue in the pixels that matches many views, and as many as the network does."""
    now, (cue, share) = state.now, state.now.cue
    network = max(now.instance_accuracy_z, now.instance_accuracy_h)
    if state.classes or share < SHORTCUT_CUE or share < SHORTCUT_SHARE * network:
        return None
    histogram = share == now.color_instance_accuracy
    return state.diagnosis(
        "shortcut",
        f"Shortcut: {cue} alone finds {share:.0%} of the pairs of views, the network "
        f"{network:.0%}, so it may have learned nothing else. {comparison(state)}",
        "The views hardly change the colors."
        if histogram
        else "The views are too weak to hide it.",
        "Borders, watermarks or sensor settings identify the image.",
        remedy="Change the colors more: set `jitter_strength` to 1, or take a recipe whose views "
        "have a color jitter, as simclr."
        if histogram
        else "Make the views stronger: set `jitter_strength` to 1, and crops smaller.",
    )


def improving_early(state: RunState) -> Diagnosis | None:
    """In the first half of the run, and better than at the previous report."""
    if state.steps_done >= EARLY * state.steps_planned:
        return None
    before, now = state.reports[-2:]
    if not (matches_more(before, now) or now.position - before.position > MOVED_POSITION):
        return None
    return state.diagnosis(
        "too early",
        f"Too early to stop: {state.steps_done:,} of {state.steps_planned:,} steps are done and "
        f"the figures still improve. {comparison(state)}",
        remedy="Let the run continue (coview resume).",
    )


def nothing_gained(state: RunState) -> Diagnosis | None:
    """No better than the network at step 0, although the parameters changed."""
    if has_gained(state):
        return None
    causes = [
        "The learning rate is far too small, or so large that each step undoes the last.",
        "The run is too short for this batch and schedule.",
    ]
    if state.classes and not (state.neighbors and has_no_room(state.neighbors)):
        causes.insert(0, "The labels have nothing to do with what the images show.")
    return state.diagnosis(
        "unchanged",
        f"Nothing was gained: the network is no better than {_no_better_than(state)}. "
        f"{comparison(state)}",
        *_temperature_causes(state),
        *causes,
        remedy="Try another `learning_rate`: a third, then three times the present one.",
    )


def no_better_than_pixels(state: RunState) -> Diagnosis | None:
    """Better than at step 0, but simple functions of the pixels do as well."""
    beaten_by = beside_pixels(state)
    if not beaten_by:
        return None
    return state.diagnosis(
        "no better than pixels",
        f"No better than pixels: training has changed something, but {beaten_by}. "
        f"{comparison(state)}",
        *_temperature_causes(state),
        "The run is too short, or has too few images.",
        "The views leave a cue that is easier than what the images show.",
        remedy="Train longer: raise `epochs`. If that does not help, look at the views (coview "
        "views).",
    )


def learning(state: RunState) -> Diagnosis:
    """Better than at step 0; the sentence warns where only the loss is flat."""
    if _flat_but_moving(state.reports[-2], state.now):
        return state.diagnosis(
            "learning",
            f"Still learning although the loss is flat, do not stop yet: "
            f"{_lower(comparison(state))}",
            remedy="Continue, and raise `epochs` if the run ends here.",
        )
    return state.diagnosis("learning", f"Learning: {_lower(comparison(state))}")


def _no_better_than(state: RunState) -> str:
    return "the weights it began with" if state.from_weights else state.before


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


RULES: tuple[Rule, ...] = (
    not_finite, nothing_to_compare, far_parameters, too_few_steps, same_parameters, same_views,
    unmatched_views, few_directions, cue_alone, improving_early, nothing_gained,
    no_better_than_pixels, learning,
)  # fmt: skip


def _hits(figures: HealthFigures) -> float:
    return figures.instance_accuracy_z * figures.images


def _temperature_causes(state: RunState) -> tuple[str, ...]:
    """What a temperature far from the usual 0.05 to 1 does."""
    now = state.now
    if now.chance_level - now.lower_bound < FLAT_OBJECTIVE * now.chance_level:
        effect = "high that the loss hardly depends on the embeddings"
    elif now.random_loss > STEEP_OBJECTIVE * now.chance_level:
        effect = "low that the loss depends on the most similar image alone"
    else:
        return ()
    return (f"The temperature is so {effect}: set `temperature` to 0.2.",)


def _flat_but_moving(before: HealthFigures, now: HealthFigures) -> bool:
    # Ranks only: with a few hundred images one more match is already a change of some per cent.
    moves = [
        abs(getattr(now, name) / max(getattr(before, name), 1e-9) - 1)
        for name in ("rank_h", "rank_z")
    ]
    return abs(now.loss / before.loss - 1) < FLAT_LOSS and max(moves) > MOVING_RANK
