"""Whether the runs of a sweep can be trained at all, before the first of them is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coview.core.errors import CoviewError, SeveralErrors
from coview.core.images import ImageStore
from coview.core.run_folder import is_run
from coview.core.text import plural
from coview.data.held_out import hold_out
from coview.data.spec import DataSpec
from coview.options import PretrainOptions
from coview.planning.planner import check_batch
from coview.recipes import Recipe
from coview.studies.cell import Cell
from coview.studies.setting import DATA_FIELDS


def check_cells(cells: Sequence[Cell], root: Path) -> None:
    """Raise SeveralErrors where pretrainings that have not begun in ``root`` do not fit their
    images: a batch of more images than are trained on, a warm-up that is as long as the run.

    Raises the errors of opening the images.
    """
    faults: dict[str, list[str]] = {}
    for cell in cells:
        recipe = dict(cell.settings).get("recipe")
        if not isinstance(recipe, Recipe) or is_run(cell.folder(root)):
            continue
        images = images_of(cell, recipe)
        try:
            rows, _ = hold_out(images, recipe.seed)
            check_batch(recipe, len(rows))
            recipe.rates(len(rows))
        except CoviewError as error:
            faults.setdefault(str(error), []).append(cell.name)
    if faults:
        count = sum(map(len, faults.values()))
        raise SeveralErrors([
            f"{count} of {plural(len(cells), 'run')} cannot be trained, so none is begun.",
            *(f"{'; '.join(names)}: {sentence}" for sentence, names in faults.items()),
        ])  # fmt: skip


def images_of(cell: Cell, recipe: Recipe) -> ImageStore:
    """The images of a pretraining, opened as its run opens them."""
    settings = {name: value for name, value in cell.settings if name in ("data", *DATA_FIELDS)}
    options = PretrainOptions(**settings)
    return DataSpec.of(options.data, options, needs_labels=recipe.method.needs_labels).open()
