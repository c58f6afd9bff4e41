"""What the runs of a study train, in words, by the runs themselves and not by its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coview.core.run_folder import RunFolder, is_run
from coview.encoders import parse_encoder
from coview.recipes import Recipe, recipe
from coview.studies.cell import Cell

VERBS: Mapping[str, str] = {
    "finetune": "fine-tuning", "distill": "distillation", "detect": "detection",
}  # fmt: skip
"""A verb that trains what pretraining has left -> its name on a card."""


def training_card(cells: Iterable[Cell]) -> dict[str, str]:
    """ "epochs" and "encoder" of pretraining, and how long each later stage trains what.

    >>> cell = Cell(name="one", verb="pretrain", settings=(("recipe", recipe("simclr-cpu")),))
    >>> training_card([cell])
    {'epochs': '100', 'encoder': 'ResNet-10 width 1/4, medium stem'}
    """
    first = [_pretraining(cell) for cell in cells if cell.verb == "pretrain"]
    card: dict[str, str] = {}
    if first:
        card["epochs"] = ", ".join(f"{epochs:g}" for epochs in sorted({each[0] for each in first}))
        card["encoder"] = "; ".join(dict.fromkeys(encoder for _, encoder in first))
    for verb, name in VERBS.items():
        later = dict.fromkeys(_later(cell) for cell in cells if cell.verb == verb)
        if later:
            card[name] = "; ".join(later)
    return card


def _pretraining(cell: Cell) -> tuple[float, str]:
    settings, made = _settings(cell)
    encoder = settings.get("encoder", made.encoder)
    return settings.get("epochs", made.epochs), encoder.label()


def _later(cell: Cell) -> str:
    settings, made = _settings(cell)
    epochs = f"{settings.get('epochs', made.epochs):g} epochs"
    if cell.verb == "finetune":
        return f"{epochs} on {settings.get('labels', '100%')} of the labels"
    if cell.verb == "distill":
        student = settings.get("student")
        own = "a network like the teacher"
        return f"{epochs} into {parse_encoder(student).label() if student else own}"
    return epochs


def _settings(cell: Cell) -> tuple[dict[str, Any], Recipe]:
    settings = dict(cell.settings)
    made = settings["recipe"]
    return settings, recipe(made) if isinstance(made, str) else made


def begun(cells: Iterable[Cell], root: Path) -> str:
    """The first and the last day on which runs began, "" where there are none.

    >>> begun([], Path("studies"))
    ''
    """
    folders = (cell.folder(root) for cell in cells)
    days = {RunFolder(each).description.get("created", "")[:10] for each in folders if is_run(each)}
    known = sorted(days - {""})
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else ""
