"""An experiment by its name: what it asks, what it costs, and the study that its options make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from coview.core.errors import InvalidValue
from coview.options import StudyOptions
from coview.studies.execution import Study
from coview.studies.grid import Grid
from coview.studies.setting import Amount, Setting

CHAIN = (
    "pretrained", "recipe", "student", "labels", "draws", "layers", "finetune_epochs",
    "distill_epochs",
)  # fmt: skip
"""Options of simclrv2/chain."""
NEEDED = ("outliers", "transfer", "annotated")
"""Options that only experiments take that need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A paper's experiment: ``grid`` makes its arms and claims for a setting.

    ``name`` is "paper/experiment", ``question`` one sentence. ``amounts``: how much each scale
    trains, in place of ``coview.studies.setting.AMOUNTS``. ``needs``: options that have to be given
    ("outliers"). ``more``: other options that it takes.

    >>> from coview.recipes import change
    >>> from coview.studies import Claim, Grid, greater
    >>> def two_rates(setting):
    ...     base = setting.recipe("simclr")
    ...     arms = tuple(
    ...         setting.arm(f"rate {rate}", change(base, learning_rate=rate))
    ...         for rate in (0.001, 0.004))
    ...     better = greater("rate 0.004", "rate 0.001")
    ...     claim = Claim(text="0.004 is better", comparisons=(better,))
    ...     return Grid(name="mine/rates", question="Which rate?", source="", arms=arms,
    ...                 claims=(claim,))
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
    more: tuple[str, ...] = ()

    def study(self, options: StudyOptions) -> Study:
        """The runs and their summary. Raises InvalidValue for options that it does not take."""
        refuse_others(self.name, options, (*self.needs, *self.more))
        for name in self.needs:
            if not getattr(options, name):
                raise InvalidValue(f"{self.name} needs `{name}`; see `coview study --help`.")
        setting = Setting.of(options, self.amounts)
        return self.grid(setting).study(setting)


def refuse_others(name: str, options: StudyOptions, takes: tuple[str, ...]) -> None:
    """Raise InvalidValue for a given option of other studies alone, which would do nothing here."""
    for each in fields(StudyOptions):
        only_others = each.name in (*CHAIN, *NEEDED) and each.name not in takes
        if only_others and getattr(options, each.name) != each.default:
            raise InvalidValue(f"{name} does not take `{each.name}`; leave it out.")
