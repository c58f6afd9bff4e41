"""A study as a value, and what runs any: cell by cell, where it was, to one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.errors import CoviewError
from coview.core.files import write_json
from coview.core.progress import output, say
from coview.core.run_folder import RunFolder
from coview.core.text import duration, plural
from coview.data.spec import opened_once
from coview.studies.cell import Cell
from coview.studies.images import check_images
from coview.studies.jobs import train_side_by_side
from coview.studies.page import write_page
from coview.studies.speed import Speeds

Figures = dict[str, Any]
"""What a study says: "tables", each with "title", "note", "columns" and "rows"; "claims", each with
"text", "holds" (True, False, or None where it cannot be said yet) and "because"; perhaps "drawings"
(see ``coview.studies.drawings``) and "rows", an object for each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Runs that belong together: ``cells`` in an order in which each finds those it needs.

    ``summarize`` reads the runs that have ended, in the folder of the study, and returns the
    figures; it trains nothing. ``images``: the number of training images, read when a cell has to
    be trained. ``card``: how it was measured, in words, by the runs in the folder of the study.
    ``claim`` is the question in one sentence, ``claims`` are the sentences that are tested.
    """

    name: str
    claim: str
    cells: tuple[Cell, ...]
    summarize: Callable[[Path], Figures]
    images: Callable[[], int]
    card: Callable[[Path], Mapping[str, Any]]
    claims: tuple[str, ...] = ()


def run_study(
    study: Study, root: Path, machine: Mapping[str, Any], *, jobs: int = 1, dry_run: bool = False
) -> dict[str, Any]:
    """Train the cells that are not there yet in ``root``, and write study.json and report.html.

    They lie in a folder of ``root`` with the name of the study; studies share the runs beside it.

    ``jobs``: so many cells are trained side by side, each in a process of its own. The same call
    goes on where it was stopped or killed. Returns the content of study.json, whose
    "ended" says whether every cell has ended. Raises the errors of the runs.
    """
    cells = tuple({cell.key: cell for cell in study.cells}.values())
    missing = [cell for cell in cells if not cell.is_ended(root)]
    say(f"{study.name}: {plural(len(cells), 'run')} in {root}, {len(cells) - len(missing)} ended.")
    with opened_once():
        if missing:
            speeds = Speeds(str(machine.get("device", "auto")), jobs)
            planned = _plan(study, cells, root, speeds)
        if dry_run:
            return {
                "study": study.name,
                "ended": not missing,
                "path": str(place_of(study.name, root)),
            }
        if missing and jobs > 1:
            train_side_by_side(
                missing, root, machine, jobs, after=lambda: write_study(study, cells, root)
            )
        elif missing:
            _train(study, cells, missing, root, machine, planned)
    return write_study(study, cells, root)


def _plan(study: Study, cells: Sequence[Cell], root: Path, speeds: Speeds) -> Mapping[str, float]:
    """Say how long the cells take that have not ended; the seconds of each by its key."""
    estimate = speeds.estimate(cells, root, study.images)
    for cell in cells:
        if cell.key in estimate.seconds:
            say(f"  {cell.name}: about {duration(estimate.seconds[cell.key])}", detail=True)
    beside = "" if speeds.jobs == 1 else f", {speeds.jobs} at a time"
    say(
        f"To run: {plural(len(estimate.seconds), 'run')}{beside}, about "
        f"{duration(estimate.whole)} {estimate.basis}."
    )
    return estimate.seconds


def _train(
    study: Study, cells: Sequence[Cell], missing: Sequence[Cell], root: Path,
    machine: Mapping[str, Any], planned: Mapping[str, float],
) -> None:  # fmt: skip
    began, done = time.monotonic(), 0.0
    for place, cell in enumerate(missing, start=1):
        number = cells.index(cell) + 1
        say()
        say(f"[{number} of {len(cells)}] {cell.name}: {cell.folder(root)}")
        try:
            with output(inner=True):
                run = cell.train(root, machine)
        except CoviewError as error:
            error.args = (f"{cell.name} ({cell.folder(root)}): {error}",)
            raise
        if not run.is_ended:
            say("The same command goes on with the study.")
            return
        done += planned[cell.key]
        left = sum(planned.values()) - done
        # What runs have taken beyond their plan, the others will take as well.
        beyond = max(0.0, (time.monotonic() - began - done) / place) * (len(missing) - place)
        if place < len(missing):
            say(f"About {duration(left + beyond)} left.")
        write_study(study, cells, root)


def write_study(study: Study, cells: Sequence[Cell], root: Path) -> dict[str, Any]:
    """study.json and report.html of what has ended; returns the content of the former and "path".

    Raises RunError as :func:`~coview.studies.images.check_images`.
    """
    check_images(cells, root)
    content = {
        "study": study.name, "claim": study.claim, "card": dict(study.card(root)),
        "ended": all(cell.is_ended(root) for cell in cells),
        "cells": [
            {
                "name": cell.name, "folder": cell.folder(root).name, "verb": cell.verb,
                "ended": cell.is_ended(root),
                "verdict": cell.run(root).verdict if cell.is_ended(root) else None,
            }
            for cell in cells
        ],
        **study.summarize(root),
    }  # fmt: skip
    place = place_of(study.name, root)
    write_json(place / "study.json", content)
    write_page(RunFolder(place).report_path, content)
    return {**content, "path": str(place)}


def place_of(name: str, root: Path) -> Path:
    """Where a study's own files lie.

    >>> place_of("simclr/pairs", Path("studies/cifar10")).as_posix()
    'studies/cifar10/simclr-pairs'
    """
    return root / name.replace("/", "-")
