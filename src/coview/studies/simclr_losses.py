"""SimCLR's comparison of losses (Chen et al., 2020, table 4), each with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from coview.methods import MarginTriplet, NTLogistic, NTXent, SetObjective
from coview.recipes import Recipe, change
from coview.reports.formatting import MISSING
from coview.studies.arms import Arm, Values
from coview.studies.cell import Cell
from coview.studies.claims import Claim, greater
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import LINEAR
from coview.studies.setting import AMOUNTS, Setting, ordered
from coview.studies.tuning import CANDIDATE

RATES = (0.25, 1.0, 4.0)
"""Factors of the recipe's own learning rate: a rate for AdamW is none for LARS."""
TEMPERATURES = (0.1, 0.2, 0.5, 1.0)
MARGINS = (0.0, 0.4, 0.8, 1.6)
"""Temperatures and margins are those of appendix B.10."""
TUNING_SEED = 1_000
"""Of the runs that are compared for a choice: none of the seeds that count."""
MINED = ", semi-hard"

LOSSES: Mapping[str, tuple[SetObjective, ...]] = {
    "NT-Xent": tuple(NTXent(temperature=tau, negatives="other views") for tau in TEMPERATURES),
    "NT-Logistic": tuple(NTLogistic(temperature=tau) for tau in TEMPERATURES),
    f"NT-Logistic{MINED}": tuple(
        NTLogistic(temperature=tau, semi_hard=True) for tau in TEMPERATURES
    ),
    "margin triplet": tuple(MarginTriplet(margin=margin) for margin in MARGINS),
    f"margin triplet{MINED}": tuple(
        MarginTriplet(margin=margin, semi_hard=True) for margin in MARGINS if margin
    ),
}
"""Semi-hard negatives lie within the margin of the positive: without a margin there is none, and
the loss is 0."""
PUBLISHED = {
    "NT-Xent": 63.9, "NT-Logistic": 51.6, f"NT-Logistic{MINED}": 57.9, "margin triplet": 50.9,
    f"margin triplet{MINED}": 57.5,
}  # fmt: skip


class Losses(Grid):
    """The grid with a table of what was chosen."""

    def summarize(self, values: Values) -> dict[str, Any]:
        content = super().summarize(values)
        content["tables"].append(_chosen(values))
        return content

    def card(self, setting: Setting, values: Values) -> dict[str, Any]:
        selection = "the numbers of each loss, on training images; of every run the last epoch"
        return {**super().card(setting, values), "selection": selection}


def losses(setting: Setting) -> Grid:
    """Each loss at the learning rate and the temperature or margin that suit it best."""
    base = setting.recipe("simclr")
    quick = setting.scale == "tiny"
    own = base.optimizer.peak(base.batch_size)
    rates = tuple(own * factor for factor in RATES[: 1 if quick else 3])

    def arm(name: str) -> Arm:
        tried = _recipes(base, LOSSES[name][:2] if quick else LOSSES[name], rates)
        candidates = {
            f"{CANDIDATE}{place:02}": replace(
                setting.pretrain(f"tuning of {name}: {words}", made, TUNING_SEED),
                judged=ordered(setting.data(test=False)),
                validates=True,
            )
            for place, (words, made) in enumerate(tried.items())
        }
        return Arm(
            name=name, published=PUBLISHED[name],
            cell=lambda seed: _best(setting, name, candidates, base, seed),
        )  # fmt: skip

    plain = [name for name in LOSSES if name != "NT-Xent" and not name.endswith(MINED)]
    return Losses(
        source="SimCLR, table 4 and appendix B.10",
        arms=tuple(arm(name) for name in LOSSES),
        published="ResNet-50 on ImageNet, 100 epochs, linear, top-1",
        notes=(
            "Tuning: every loss is trained once with each of its temperatures or margins and each "
            "of three learning rates, with a seed that counts nowhere else, and judged by a linear "
            "probe on four fifths of the training images, tested on the other fifth, whose pixels "
            "it has seen without labels. The best is trained with the seeds that count and judged "
            "on the test images.",
            "Every loss has unit rows and the negatives of the other view alone, as in the paper; "
            "the negatives of an anchor are averaged.",
            "One choice is made for all seeds: intervals are over the seeds of the runs that "
            "count, and not over another choice.",
        ),
        claims=(
            Claim(
                text="NT-Xent is better than the other losses, each at its best numbers",
                source="SimCLR, table 4",
                comparisons=tuple(greater("NT-Xent", name) for name in LOSSES if name != "NT-Xent"),
            ),
            Claim(
                text="Semi-hard mining helps the losses that do not weight negatives",
                source="SimCLR, section 5.1",
                comparisons=tuple(greater(f"{name}{MINED}", name) for name in plain),
            ),
        ),
    )  # fmt: skip


def _recipes(
    base: Recipe, objectives: tuple[SetObjective, ...], rates: tuple[float, ...]
) -> dict[str, Recipe]:
    """In words -> the recipe, for every objective at every rate."""
    return {
        f"{_words(objective)}, rate {rate:g}": change(
            replace(base, method=replace(base.method, objective=objective)), learning_rate=rate
        )
        for objective, rate in product(objectives, rates)
    }


def _words(objective: Any) -> str:
    if isinstance(objective, MarginTriplet):
        return f"margin {objective.margin:g}"
    return f"temperature {objective.temperature:g}"


def _best(
    setting: Setting, name: str, candidates: Mapping[str, Cell], base: Recipe, seed: int
) -> Cell:
    """The cell that trains the best of the ``candidates`` with ``seed``."""
    like = setting.pretrain(name, base, seed)
    settings = {**setting.data(labels=False, test=False), **candidates, "seed": seed}
    return replace(like, verb="pretrain_best", settings=ordered(settings))


def _at_end(rate: float, tried: Sequence[float]) -> str:
    """What is said of a choice beyond which no rate was tried."""
    rates = sorted(set(tried))
    if len(rates) < 3 or rates[0] < rate < rates[-1]:
        return ""
    return f"; the {'lowest' if rate == rates[0] else 'highest'} rate that was tried"


def _rate(candidate: Cell) -> float:
    return float(dict(candidate.settings)["recipe"].optimizer.learning_rate)


def _chosen(values: Values) -> dict[str, Any]:
    """For each loss what it was tried with, its accuracy on training images, and the choice."""
    rows = []
    for arm in values.arms:
        cell = next(cell for (name, _), cell in values.cells.items() if name == arm.name)
        # A candidate without finite features has ended without a figure.
        ended = [need.is_ended(values.root) for need in cell.needs]
        figures = [
            LINEAR.read(need.run(values.root)) if has_ended else None
            for need, has_ended in zip(cell.needs, ended, strict=True)
        ]
        rates = [_rate(need) for need in cell.needs]
        best = max((each for each in figures if each is not None), default=None)
        place = figures.index(best) if all(ended) and best is not None else None
        rows += [
            [arm.name, need.name.partition(": ")[2].partition(", seed")[0],
             MISSING if figure is None else f"{figure:.1f}",
             f"chosen{_at_end(rates[number], rates)}" if number == place else ""]
            for number, (need, figure) in enumerate(zip(cell.needs, figures, strict=True))
        ]  # fmt: skip
    return {
        "title": "Tuning", "rows": rows, "columns": ["loss", "numbers", "linear", "choice"],
        "note": "One run each, judged on a fifth of the training images.",
    }  # fmt: skip


BEST_OF_EACH = Experiment(
    name="simclr/losses",
    question="Is NT-Xent better than other losses, each at the numbers that suit it best?",
    grid=losses,
    amounts={"cpu": replace(AMOUNTS["cpu"], epochs=30, seeds=5)},
)
EXPERIMENTS = (BEST_OF_EACH,)
