"""The arms of an experiment, and their figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coview.studies.cell import Cell
from coview.studies.measure import Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One condition of an experiment, trained with every seed.

    ``cell``: a seed -> the run whose figures count; runs that it needs are among its settings.
    ``row`` and ``column`` are its place in a matrix, ``x`` that on the axis of a curve, of which
    ``row`` is then the name; without ``x`` the arm is a level beside the curves. ``axis``: that of
    ``x`` where it is not the grid's. ``published``: the paper's figure of the first measure, or
    the figures by the measures' names. ``values``: plain values that its rows have, by name.
    """

    name: str
    cell: Callable[[int], Cell]
    row: str = ""
    column: str = ""
    x: float | None = None
    axis: str = ""
    published: float | Mapping[str, float] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def published_of(self, measure: Measure, *, first: bool) -> float | None:
        """The paper's figure of a measure, which may be the ``first`` of the grid.

        >>> from coview.studies.measure import KNN, LINEAR
        >>> arm = Arm(name="a", cell=None, published={"kNN": 61.0})
        >>> arm.published_of(KNN, first=False), arm.published_of(LINEAR, first=True)
        (61.0, None)
        """
        if isinstance(self.published, Mapping):
            return self.published.get(measure.name)
        return self.published if first else None


@dataclass(frozen=True, kw_only=True)
class Values:
    """The figures of the cells of a grid, as far as they have ended in ``root``.

    ``cells``: (name of an arm, seed) -> its cell.
    """

    root: Path
    arms: tuple[Arm, ...]
    measures: tuple[Measure, ...]
    cells: Mapping[tuple[str, int], Cell]

    @cached_property
    def figures(self) -> Mapping[tuple[str, str], list[float | None]]:
        """(arm, measure) -> the figure for every seed, None where its run has not ended.

        Claims ask for a figure in each of their comparisons: the files are read once.
        """
        found: dict[tuple[str, str], list[float | None]] = {}
        for (arm, _), cell in self.cells.items():
            ended = cell.is_ended(self.root)
            for measure in self.measures:
                value = measure.read(cell.run(self.root)) if ended else None
                found.setdefault((arm, measure.name), []).append(value)
        return found

    def of(self, arm: str, measure: str = "") -> list[float | None]:
        """The figure of an arm for every seed; the measure "" is the first."""
        return self.figures[arm, measure or self.measures[0].name]

    def known(self, arm: str, measure: str = "") -> list[float]:
        """Those that are there."""
        return [value for value in self.of(arm, measure) if value is not None]

    def history(self, arm: str) -> dict[float, list[float]]:
        """Epoch -> the first measure for every seed, while the runs of an arm trained."""
        series = [
            dict(self.measures[0].series(cell.run(self.root)))
            for (name, _), cell in self.cells.items()
            if name == arm and cell.is_ended(self.root)
        ]
        shared = set.intersection(*(set(each) for each in series)) if series else set()
        return {epoch: [each[epoch] for each in series] for epoch in sorted(shared)}

    def rows(self) -> list[dict[str, Any]]:
        """One object for each run: arm, the arm's values, seed, folder and its figures by the
        measures' names."""
        seeds = list(dict.fromkeys(seed for _, seed in self.cells))
        own = {arm.name: arm.values for arm in self.arms}
        return [
            {
                "arm": name, **own[name], "seed": seed, "folder": cell.folder(self.root).name,
                **{
                    measure.name: self.of(name, measure.name)[seeds.index(seed)]
                    for measure in self.measures
                },
            }
            for (name, seed), cell in self.cells.items()
        ]  # fmt: skip
