"""Runs whose recipe is the best of several others', which are judged on training images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue
from coview.core.files import exists
from coview.core.run_folder import RunFolder
from coview.core.text import plural
from coview.data.spec import DataSpec
from coview.runs.pretrain import pretrain
from coview.runs.run import Run
from coview.studies.measure import LINEAR, Measure

CANDIDATE = "candidate_"
TRAINING_PART = "train"


def pretrain_best(*, seed: int, **settings: Any) -> Run:
    """Pretrain by the recipe of the best of ended runs, with another ``seed``.

    ``settings``: those of `pretrain` without a recipe, and the folders of the runs as candidate_00,
    candidate_01, ... The best has the highest linear accuracy (:func:`best_of`). Raises
    InvalidValue without candidates.
    """
    folders = [Path(settings.pop(name)) for name in sorted(settings) if name.startswith(CANDIDATE)]
    if not folders:
        raise InvalidValue("`pretrain_best` has no candidates; expected one or more ended runs.")
    recipe = Run.open(folders[best_of(folders)]).recipe
    run = pretrain(**settings, recipe=replace(recipe, seed=seed))
    assert isinstance(run, Run)
    return run


def best_of(folders: Sequence[Path], measure: Measure = LINEAR) -> int:
    """The place of the run with the highest figure; of equal ones the first.

    A run that has left no encoder, as its features are not finite, is never the best. Raises
    InvalidValue where another one has no figure, or where no run has left an encoder.
    """
    figures: dict[int, float] = {}
    for place, folder in enumerate(folders):
        run = RunFolder(folder)
        if not exists(run.encoder_path):
            continue
        figure = measure.read(run)
        if figure is None:
            raise InvalidValue(f"{folder} has no figure {measure.name!r}; judge it first.")
        figures[place] = figure
    if not figures:
        raise InvalidValue(
            f"None of {plural(len(folders), 'candidate')} has finite features; try lower learning "
            "rates."
        )
    return max(figures, key=lambda place: (figures[place], -place))


def on_training_part(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` of `evaluate` so that nothing but training images is judged: a fifth of them.

    Without `test`, `evaluate` takes the test part of the data where they have one; naming the
    training part leaves it alone.
    """
    kept = {name: value for name, value in settings.items() if name != "test"}
    if kept.get("split") is None:
        parts = _opened(kept).parts
        if TRAINING_PART in parts and len(parts) > 1:
            kept["split"] = TRAINING_PART
    return kept


def _opened(settings: Mapping[str, Any]) -> Any:
    options = {name: value for name, value in settings.items() if name != "data"}
    return DataSpec.of(settings["data"], **{**options, "needs_labels": True}).open()
