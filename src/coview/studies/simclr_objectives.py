"""SimCLR's experiments on its objective (Chen et al., 2020): temperature and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coview.core.values import set_fields
from coview.recipes import change
from coview.studies.arms import Arm
from coview.studies.claims import Claim, Comparison, Term, between, greater
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import CONTRASTIVE, CONTRASTIVE_DOT, LINEAR, PRETEXT, Measure
from coview.studies.setting import AMOUNTS, Setting

TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Those of table 5, and 0.2 between them."""
PUBLISHED = {0.05: (59.7, 90.5), 0.1: (64.4, 87.8), 0.5: (60.7, 68.2), 1.0: (58.0, 59.1)}
"""Of table 5: temperature -> top-1 and contrastive accuracy."""
OF_LENGTHS = {10.0: (57.2, 91.7), 100.0: (57.0, 92.1)}
"""The same of its rows without normalization."""
PAPER_WIDTH = 128
"""Of z. The head ends in BatchNorm, so that the mean of the squared lengths of rows is the width:
at another width the temperature without normalization changes with it."""
BEST = "0.1"
"""The temperature of the best normalized row of table 5."""


def temperature(setting: Setting) -> Grid:
    """NT-Xent at several temperatures, with and without normalization of the rows."""
    base = setting.recipe("simclr")

    def arm(tau: float) -> Arm:
        name = f"{tau:g}"
        return setting.arm(
            name, change(base, temperature=tau), runs=f"temperature {name}", x=tau,
            published=_published(PUBLISHED.get(tau), CONTRASTIVE), protocols=PRETEXT,
        )  # fmt: skip

    def of_lengths(published_at: float) -> Arm:
        tau = published_at * base.method.head.output / PAPER_WIDTH
        made = set_fields(change(base, temperature=tau), {"method.objective.normalize": False})
        name = f"{tau:g}, not normalized"
        return setting.arm(
            name, made, runs=f"temperature {name}",
            published=_published(OF_LENGTHS[published_at], CONTRASTIVE_DOT), protocols=PRETEXT,
        )  # fmt: skip

    names = [f"{tau:g}" for tau in TEMPERATURES]
    longer = tuple(of_lengths(tau) for tau in OF_LENGTHS)
    return Grid(
        source="SimCLR, table 5 and appendix B.9",
        arms=(*(arm(tau) for tau in TEMPERATURES), *longer),
        measures=(LINEAR, CONTRASTIVE, CONTRASTIVE_DOT), drawn="curve", axis="temperature",
        published="ResNet-50 on ImageNet, 100 epochs: linear, top-1, and contrastive accuracy in a "
        "batch of 4,096 while training, which is at other temperatures without normalization (10 "
        "and 100)",
        notes=(
            "All arms have the learning rate of the recipe; that of simclr-cpu was chosen at the "
            "temperature 0.1.",
            "Contrastive accuracy is among at most 4,096 test images, as many as in the paper's "
            "batch. The claim takes that of the arm's own loss: by cosine, and by the dot product "
            "where rows are not normalized.",
            f"Rows that end in BatchNorm have a mean squared length of their width, "
            f"{base.method.head.output} here and {PAPER_WIDTH} in the paper: its temperatures 10 "
            "and 100 without normalization are changed by that ratio.",
        ),
        claims=_claims(names, [arm.name for arm in longer]),
    )  # fmt: skip


def _published(figures: tuple[float, float] | None, pretext: Measure) -> dict[str, float] | None:
    """Top-1 and contrastive accuracy, by that measure of ours whose similarity the loss has."""
    return None if figures is None else {LINEAR.name: figures[0], pretext.name: figures[1]}


def _claims(names: Sequence[str], longer: Sequence[str]) -> tuple[Claim, ...]:
    """``names`` of the arms by their temperature, ``longer`` of those that are not normalized."""

    def found_more_often(arm: str) -> Comparison:
        """Each by the similarity of its own loss."""
        return Comparison(
            text=f"contrastive accuracy of {arm} - of {BEST}",
            terms=(Term(arm, 1, CONTRASTIVE_DOT.name), Term(BEST, -1, CONTRASTIVE.name)),
        )

    return (
        Claim(
            text="An intermediate temperature is better than a very low and a very high one",
            source="SimCLR, section 5.1",
            comparisons=between(names[1:-1], (names[0], names[-1]), axis="temperature"),
        ),
        Claim(
            text="Without normalization the other view is found more often, and the features "
            "are worse",
            source="SimCLR, section 5.1 and table 5",
            comparisons=tuple(
                comparison
                for arm in longer
                for comparison in (found_more_often(arm), greater(BEST, arm))
            ),
        ),
    )  # fmt: skip


TEMPERATURE = Experiment(
    name="simclr/temperature",
    question="Which temperature gives the best features, and is it the best at the pretext task?",
    grid=temperature,
    amounts={"cpu": replace(AMOUNTS["cpu"], seeds=5)},
)
EXPERIMENTS = (TEMPERATURE,)
