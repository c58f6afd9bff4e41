"""The papers' experiments: ordinary runs that belong together, and what they say together."""

from coview.studies.cell import Cell, Existing, Work
from coview.studies.execution import Figures, Study, run_study
from coview.studies.run import study

__all__ = ["Cell", "Existing", "Figures", "Study", "Work", "run_study", "study"]
