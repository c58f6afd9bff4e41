"""An experiment by its name: what it asks, what it costs, and the study that its options make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coview.core.errors import InvalidValue
from coview.options import StudyOptions
from coview.studies.execution import Study
from coview.studies.grid import Grid
from coview.studies.setting import DATA_FIELDS, Amount, Setting

OF_CHAIN = (
    "pretrained", "recipe", "student", "labels", "draws", "layers", "finetune_epochs",
    "distill_epochs",
)  # fmt: skip
"""Options of simclrv2/chain, whose draws take the place of seeds."""
SEEDS = ("seeds",)
NEEDED = ("outliers", "transfer", "annotated")
"""Options that only experiments take that need them."""
IMAGES = ("data", *DATA_FIELDS)
"""Of a study of images: which they are and how they are opened."""
TRAINED = ("test", "encoder", "epochs")
"""Of a study that trains."""
SPECIAL = (*OF_CHAIN, *SEEDS, *NEEDED, *IMAGES, *TRAINED)
"""Options that not every study takes."""
USUAL = StudyOptions(data="scenes")
"""What stands for options that are not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A paper's experiment: ``grid`` makes its arms and claims for a setting.

    ``name`` is "paper/experiment", ``question`` one sentence. ``amounts``: how much each scale
    trains, in place of ``coview.studies.setting.AMOUNTS``. ``needs``: options that have to be given
    ("outliers"). ``fixed``: options that it does not take, as the grid has its own ("encoder").

    >>> from coview.recipes import change
    >>> from coview.studies import Claim, Grid, greater
    >>> def two_rates(setting):
    ...     base = setting.recipe("simclr")
    ...     arms = tuple(
    ...         setting.arm(f"rate {rate}", change(base, learning_rate=rate))
    ...         for rate in (0.001, 0.004))
    ...     better = greater("rate 0.004", "rate 0.001")
    ...     claim = Claim(text="0.004 is better", comparisons=(better,))
    ...     return Grid(arms=arms, claims=(claim,))
    >>> rates = Experiment(name="mine/rates", question="Which rate?", grid=two_rates)
    >>> study = rates.study(StudyOptions(name="mine/rates", scale="tiny"))
    >>> [cell.name for cell in study.cells]
    ['rate 0.001, seed 0', 'rate 0.004, seed 0', 'rate 0.001, seed 1', 'rate 0.004, seed 1']
    """

    name: str
    question: str
    grid: Callable[[Setting], Grid]
    amounts: Mapping[str, Amount] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """The special options that it takes."""
        taken = (*SEEDS, *IMAGES, *TRAINED, *self.needs)
        return tuple(name for name in taken if name not in self.fixed)

    def study(self, options: StudyOptions) -> Study:
        """The runs and their summary. Raises InvalidValue for options that it does not take."""
        refuse_others(self.name, options, self.takes)
        for name in self.needs:
            if not getattr(options, name):
                raise InvalidValue(f"{self.name} needs `{name}`; see `coview study --help`.")
        setting = Setting.of(options, self.amounts)
        return self.grid(setting).study(self.name, self.question, setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomExperiment:
    """An experiment that is no grid: ``make`` gives the study for its options.

    ``takes``: the special options that it takes.
    """

    name: str
    question: str
    make: Callable[[StudyOptions], Study]
    takes: tuple[str, ...] = SEEDS
    needs: tuple[str, ...] = ()

    def study(self, options: StudyOptions) -> Study:
        """The study. Raises InvalidValue for options that it does not take."""
        refuse_others(self.name, options, self.takes)
        return self.make(options)


def without_others(options: StudyOptions, takes: Sequence[str]) -> StudyOptions:
    """``options`` of several studies as one that takes these special ones gets them."""
    others = {name: getattr(USUAL, name) for name in SPECIAL if name not in takes}
    return replace(options, **others)


def refuse_others(name: str, options: StudyOptions, takes: Sequence[str]) -> None:
    """Raise InvalidValue for a given option that would do nothing in this study."""
    for each in SPECIAL:
        if each not in takes and _is_given(options, each):
            raise InvalidValue(f"{name} does not take `{each}`; leave it out.")


def _is_given(options: StudyOptions, name: str) -> bool:
    value, usual = getattr(options, name), getattr(USUAL, name)
    # Images in memory are compared with no name.
    return value is not None and not (type(value) is type(usual) and value == usual)
