"""The papers' experiments: ordinary runs that belong together, and what they say together."""

from coview.studies.arms import Arm, Values
from coview.studies.catalogue import STUDIES
from coview.studies.cell import Cell, Existing, Work
from coview.studies.claims import (
    Claim,
    Comparison,
    Term,
    alike,
    best,
    between,
    decide,
    greater,
    rising,
    shrinking_gap,
    smaller_gap,
)
from coview.studies.execution import Figures, Study, run_study
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import CONTRASTIVE, KNN, LINEAR, LINEAR_Z, Measure
from coview.studies.result import StudyResult
from coview.studies.run import study
from coview.studies.setting import Amount, Setting
from coview.studies.sweeps import sweep

__all__ = [
    "CONTRASTIVE", "KNN", "LINEAR", "LINEAR_Z", "STUDIES", "Amount", "Arm", "Cell",
    "Claim", "Comparison", "Existing", "Experiment", "Figures", "Grid", "Measure", "Setting",
    "Study", "StudyResult", "Term", "Values", "Work", "alike", "best", "between", "decide",
    "greater", "rising", "run_study", "shrinking_gap", "smaller_gap", "study", "sweep",
]  # fmt: skip
