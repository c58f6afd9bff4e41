"""A figure of a run that a study compares, read from the run's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.metrics import headline_misfit
from coview.core.run_folder import RunFolder, read_object

PER_CENT = 100.0
NEAR = 1 / 8
"""The share of a training within which a figure is that of a share of it: half a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of a run: the result of a protocol.

    ``name`` heads a column. ``protocol`` is the file of results that is read, of it the result with
    this ``subject``, ``metric`` and ``layer`` and, where there are several, the one that represents
    the protocol; ``setting`` narrows it ({"k": 20}). ``at`` is the share of the planned training
    (1: its end) after which the nearest kept checkpoint was judged. ``factor`` turns the value into
    the unit that is shown (100: per cent).

    >>> Measure(name="linear accuracy", protocol="linear").metric
    'accuracy'
    """

    name: str
    protocol: str
    metric: str = "accuracy"
    layer: str = "h"
    subject: str = "trained"
    setting: tuple[tuple[str, Any], ...] = ()
    factor: float = PER_CENT
    at: float = 1.0

    @property
    def is_percent(self) -> bool:
        return self.factor == PER_CENT

    def read(self, run: RunFolder) -> float | None:
        """The figure; None where the run has none yet, or none near ``at``."""
        if self.at == 1:
            return self._result(run.evaluation_path)
        epoch = run.description["steps_per_epoch"]
        planned, ended = run.total_steps / epoch, run.last_step / epoch
        wanted = self.at * planned
        if ended <= wanted:  # given up before: its features stay what they were
            return self._result(run.evaluation_path)
        far, figure = min(
            ((abs(place - wanted), figure) for place, figure in self.series(run)),
            default=(planned, None),
        )
        # Whole epochs are kept, every quarter of them rounded: of 6 epochs those after 2 and 4.
        return figure if far <= max(1.0, NEAR * planned) else None

    def _result(self, folder: Path) -> float | None:
        """The figure in a folder of results, or None."""
        file = read_object(folder / f"{self.protocol}.json") or {}
        own = [row for row in file.get("results", ()) if self._fits(row)]
        if not own:
            return None
        headline = {**file.get("headline", {}), "metric": self.metric, "layer": self.layer}
        best = min(own, key=lambda row: headline_misfit(
            headline, row["layer"], row["metric"], row["setting"]
        ))  # fmt: skip
        return self.factor * float(best["value"])

    def series(self, run: RunFolder) -> list[tuple[float, float]]:
        """(epoch, figure) of every checkpoint that the protocol has judged, and of the end; the
        checkpoint itself may have been deleted since."""
        places = {step: run.evaluation_of(step) for step in run.evaluated_steps}
        places[run.last_step] = run.evaluation_path
        figures = [(step, self._result(folder)) for step, folder in places.items()]
        epoch = run.description["steps_per_epoch"]
        return [(step / epoch, figure) for step, figure in figures if figure is not None]

    def _fits(self, row: Mapping[str, Any]) -> bool:
        wanted = {"subject": self.subject, "metric": self.metric, "layer": self.layer}
        return all(row[name] == value for name, value in wanted.items()) and all(
            row["setting"].get(name) == value for name, value in self.setting
        )


LINEAR = Measure(name="linear", protocol="linear")
LINEAR_Z = Measure(name="linear on z", protocol="linear", layer="z")
KNN = Measure(name="kNN", protocol="knn")
CONTRASTIVE = Measure(
    name="contrastive", protocol="contrastive", metric="instance_accuracy", layer="z"
)
"""Contrastive accuracy: how often the other view of a test image is the nearest of all, by cosine.
The health figure of a run is of about 128 images, too few to compare runs by."""
CONTRASTIVE_DOT = replace(
    CONTRASTIVE, name="contrastive, dot product", setting=(("similarity", "dot product"),)
)
"""The same by the dot product, as of a loss whose rows are not normalized."""
PRETEXT = ("linear", "contrastive")
"""The protocols of a study that sets contrastive accuracy beside that of the features."""
