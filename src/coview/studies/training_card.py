"""What the runs of a study train, in words, by the runs themselves and not by its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.core.run_folder import RunFolder, is_run
from coview.encoders import parse_encoder
from coview.recipes import recipe
from coview.studies.cell import Cell

STAGES: Mapping[str, str] = {
    "finetune": "fine-tuning", "distill": "distillation", "detect": "detection",
}  # fmt: skip
"""A verb that trains what pretraining has left -> its name on a card."""


def training_card(cells: Sequence[Cell]) -> dict[str, str]:
    """ "epochs" and "encoder" of pretraining, and how long each later stage trains what.

    >>> cell = Cell(name="one", verb="pretrain", settings=(("recipe", recipe("simclr-cpu")),))
    >>> training_card([cell])
    {'epochs': '100', 'encoder': 'ResNet-10 width 1/4, medium stem'}
    """
    first = [cell for cell in cells if cell.verb == "pretrain"]
    epochs = sorted({known for cell in first if (known := _value(cell, "epochs")) is not None})
    encoders = dict.fromkeys(
        (parse_encoder(known) if isinstance(known, str) else known).label()
        for cell in first
        if (known := _value(cell, "encoder")) is not None
    )
    card = {"epochs": ", ".join(f"{each:g}" for each in epochs), "encoder": "; ".join(encoders)}
    card = {name: text for name, text in card.items() if text}
    for verb, name in STAGES.items():
        later = dict.fromkeys(_later(cell) for cell in cells if cell.verb == verb)
        if later:
            card[name] = "; ".join(later)
    return card


def recipe_names(cells: Iterable[Cell]) -> set[str]:
    """The names of the recipes that runs are given; a recipe that was changed keeps its name.

    >>> cell = Cell(name="one", verb="pretrain", settings=(("recipe", recipe("simclr-cpu")),))
    >>> recipe_names([cell])
    {'simclr-cpu'}
    """
    given = [made for cell in cells if (made := dict(cell.settings).get("recipe")) is not None]
    return {made if isinstance(made, str) else made.name for made in given}


def _later(cell: Cell) -> str:
    settings, epochs = dict(cell.settings), _value(cell, "epochs")
    length = "the epochs of the plan" if epochs is None else f"{epochs:g} epochs"
    if cell.verb == "finetune":
        return f"{length} on {settings.get('labels', '100%')} of the labels"
    if cell.verb == "distill":
        student = settings.get("student")
        own = "a network like the teacher"
        return f"{length} into {parse_encoder(student).label() if student else own}"
    return length


def _value(cell: Cell, name: str) -> Any:
    """A setting of the verb, else that of its recipe; None where it plans one itself."""
    settings = dict(cell.settings)
    if name in settings:
        return settings[name]
    made = settings.get("recipe")
    return None if made is None else getattr(recipe(made) if isinstance(made, str) else made, name)


def begun(cells: Iterable[Cell], root: Path) -> str:
    """The first and the last day on which runs began, "" where there are none.

    >>> begun([], Path("studies"))
    ''
    """
    folders = (cell.folder(root) for cell in cells)
    days = {RunFolder(each).description.get("created", "")[:10] for each in folders if is_run(each)}
    known = sorted(days - {""})
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else ""
