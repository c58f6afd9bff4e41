"""Every study by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from coview.options import StudyOptions
from coview.studies import (
    few_labels,
    logo,
    logo_dense,
    simclr_color,
    simclr_histograms,
    simclr_losses,
    simclr_objectives,
    simclr_training,
    simclr_views,
    simclrv2_parts,
    supcon_judged,
    supcon_objective,
)
from coview.studies.execution import Study
from coview.studies.simclrv2 import CHAIN
from coview.studies.supcon_gradients import GRADIENTS


class Named(Protocol):
    """What the catalogue holds: an Experiment, or a CustomExperiment."""

    @property
    def name(self) -> str: ...

    @property
    def question(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def takes(self) -> tuple[str, ...]: ...

    def study(self, options: StudyOptions) -> Study:
        """The study that these options make."""


EXPERIMENTS: tuple[Named, ...] = (
    *simclr_views.EXPERIMENTS,
    *simclr_histograms.EXPERIMENTS,
    *simclr_color.EXPERIMENTS,
    *simclr_losses.EXPERIMENTS,
    *simclr_objectives.EXPERIMENTS,
    *simclr_training.EXPERIMENTS,
    *few_labels.EXPERIMENTS,
    *simclrv2_parts.EXPERIMENTS,
    CHAIN,
    *supcon_objective.EXPERIMENTS,
    GRADIENTS,
    *supcon_judged.EXPERIMENTS,
    *logo.EXPERIMENTS,
    *logo_dense.EXPERIMENTS,
)
STUDIES: Mapping[str, Named] = {experiment.name: experiment for experiment in EXPERIMENTS}
"""Every study by its name, in the order of the papers."""
