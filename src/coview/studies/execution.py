"""A study as a value, and what runs any: cell by cell, where it was, to one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.files import write_json
from coview.core.progress import output, say
from coview.core.run_folder import RunFolder, read_object
from coview.core.text import duration, plural
from coview.data.spec import opened_once
from coview.options import StudyOptions
from coview.studies.cell import Cell
from coview.studies.failures import Failure, Failures
from coview.studies.images import check_images
from coview.studies.jobs import train_side_by_side
from coview.studies.live import figures_of
from coview.studies.measurement import Measurement
from coview.studies.page import LOST, write_page
from coview.studies.speed import Speeds

USUAL_SCALE = StudyOptions().scale
BEGUN = "runs begun"
CONTENT = "study.json"
TIME = "time of the runs"
Figures = dict[str, Any]
"""What a study says: "tables", each with "title", "note", "columns" and "rows"; "claims", each with
"text", "holds" (True, False, or None where it cannot be said yet) and "because"; perhaps "drawings"
(see ``coview.studies.drawings``) and "rows", an object for each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Runs that belong together: ``cells`` in an order in which each finds those it needs.

    ``summarize`` reads the runs that have ended, in the folder of the study, and returns the
    figures; it trains and measures nothing. ``images``: the number of training images, read when a
    cell has to be trained. ``card``: how it was measured, in words, by the runs in the folder of
    the study. ``claim`` is the question in one sentence, ``claims`` are the sentences that are
    tested. ``scale``: how much is trained, in a word. ``measurement``: what a study without runs
    measures before it is summarized.
    """

    name: str
    claim: str
    cells: tuple[Cell, ...]
    summarize: Callable[[Path], Figures]
    images: Callable[[], int]
    card: Callable[[Path], Mapping[str, Any]]
    claims: tuple[str, ...] = ()
    scale: str = USUAL_SCALE
    measurement: Measurement | None = None

    def folder(self, root: Path) -> Path:
        """Where its own files lie, beside the runs."""
        return place_of(self.name, root, self.scale)

    def is_in(self, content: Mapping[str, Any], root: Path) -> bool:
        """Whether ``content`` of a study.json is of these runs, or of this measurement, and of the
        same claims."""
        folders = {cell.folder(root).name for cell in self.cells}
        return (
            folders == {cell["folder"] for cell in content.get("cells", ())}
            and content.get("measurement") == (self.measurement and self.measurement.key)
            and [claim["text"] for claim in content.get("claims", ())] == list(self.claims)
        )


def run_study(
    study: Study, root: Path, machine: Mapping[str, Any], *, jobs: int = 1, dry_run: bool = False
) -> dict[str, Any]:
    """Train the cells that are not there yet in ``root``, and write study.json and report.html.

    They lie in a folder of ``root`` with the name of the study, and of its scale if that is not the
    usual one; studies share the runs beside it. Claims are decided when every run has ended.

    ``jobs``: so many cells are trained side by side, each in a process of its own. The same call
    goes on where it was stopped or killed. Returns the content of study.json, whose
    "ended" says whether every cell has ended. Where a cell fails, those that do not need it go on.
    Raises RunError with what went wrong in each, when the others have ended, and where images were
    replaced under their name (:func:`~coview.studies.images.check_images`).
    """
    cells = tuple({cell.key: cell for cell in study.cells}.values())
    missing = [cell for cell in cells if not cell.is_ended(root)]
    say(f"{study.name}: {plural(len(cells), 'run')} in {root}, {len(cells) - len(missing)} ended.")
    with opened_once():
        if missing:
            check_images(cells, root)
            speeds = Speeds(str(machine.get("device", "auto")), jobs)
            plan, planned = _plan(study, cells, root, speeds)
        if dry_run:
            folder = study.folder(root)
            measured = study.measurement is None or study.measurement.is_in(folder)
            return {
                "study": study.name,
                "ended": not missing and measured,
                "path": str(folder),
                "plan": plan if missing else "Every run has ended.",
            }
        if study.measurement is not None:
            study.measurement.keep(study.folder(root))
        if missing and jobs > 1:
            train_side_by_side(
                missing, root, machine, jobs, after=lambda: write_study(study, cells, root)
            )
        elif missing:
            _train(study, cells, missing, root, machine, planned)
    content = write_study(study, cells, root)
    if not content["ended"]:
        ended = sum(cell["ended"] for cell in content["cells"])
        say(f"{ended} of {plural(len(cells), 'run')} have ended. The same command goes on.")
    return content


def _plan(
    study: Study, cells: Sequence[Cell], root: Path, speeds: Speeds
) -> tuple[str, Mapping[str, float]]:
    """Say how long the cells take that have not ended; the sentence, and the seconds of each by its
    key."""
    estimate = speeds.estimate(cells, root, study.images)
    for cell in cells:
        if cell.key in estimate.seconds:
            known = cell.key not in estimate.unmeasured
            length = f"about {duration(estimate.seconds[cell.key])}" if known else "not measured"
            say(f"  {cell.name}: {length}", detail=True)
    beside = "" if speeds.jobs == 1 else f", {speeds.jobs} at a time"
    runs = plural(len(estimate.seconds), "run")
    sentence = f"To run: {runs}{beside}, {estimate.words}."
    say(sentence)
    return sentence, estimate.seconds


def _train(
    study: Study, cells: Sequence[Cell], missing: Sequence[Cell], root: Path,
    machine: Mapping[str, Any], planned: Mapping[str, float],
) -> None:  # fmt: skip
    began, done = time.monotonic(), 0.0
    failures = Failures(root)
    for place, cell in enumerate(missing, start=1):
        if failures.leaves_out(cell):
            done += planned[cell.key]
            continue
        number = cells.index(cell) + 1
        say()
        say(f"[{number} of {len(cells)}] {cell.name}: {cell.folder(root)}")
        try:
            with output(inner=True):
                run = cell.train(root, machine)
        except Exception as error:
            failure = Failure.of(error)
            say(f"Failed: {failures.add(cell, failure)}")
            if failure.ends_all:
                break
            done += planned[cell.key]
            continue
        if not run.is_ended:
            break
        done += planned[cell.key]
        left = sum(planned.values()) - done
        # What runs have taken beyond their plan, the others will take as well.
        beyond = max(0.0, (time.monotonic() - began - done) / place) * (len(missing) - place)
        if place < len(missing):
            say(f"About {duration(left + beyond)} left.")
        text = figures_of(cell.folder(root).name, write_study(study, cells, root))
        if text:
            say(f"{cell.name}: {text}")
    failures.raise_any()


def write_study(study: Study, cells: Sequence[Cell], root: Path) -> dict[str, Any]:
    """study.json and report.html of what has ended; returns the content of the former and "path".

    Raises RunError as :func:`~coview.studies.images.check_images`.
    """
    ended = {cell.key for cell in cells if cell.is_ended(root)}
    check_images([cell for cell in cells if cell.key in ended], root)
    place, card = study.folder(root), dict(study.card(root))
    before = read_object(place / CONTENT) or {}
    figures = study.summarize(root)
    if len(ended) < len(cells):
        figures["claims"] = [
            _open_claim(each, len(ended), len(cells)) for each in figures["claims"]
        ]
    took = time_of_runs([cell.took(root) for cell in cells])
    lost = lost_runs([cell for cell in cells if cell.key in ended], root)
    content = {
        "study": study.name, "claim": study.claim,
        "card": {**card, **({TIME: took} if took else {}), **({LOST: lost} if lost else {})},
        "ended": len(ended) == len(cells),
        "cells": [
            {
                "name": cell.name, "folder": cell.folder(root).name, "verb": cell.verb,
                "ended": cell.key in ended,
                "verdict": cell.run(root).verdict if cell.key in ended else None,
            }
            for cell in cells
        ],
        "measurement": study.measurement and study.measurement.key,
        **figures, "earlier": _earlier(before, card, study, root),
    }  # fmt: skip
    write_json(place / CONTENT, content)
    write_page(RunFolder(place).report_path, content)
    return {**content, "path": str(place)}


def _open_claim(claim: Mapping[str, Any], ended: int, count: int) -> dict[str, Any]:
    """A claim before all runs have ended: who looks at each verdict in between, and stops when he
    likes it, does not test at the level that is said."""
    return {
        "text": claim["text"], "source": claim.get("source", ""), "holds": None,
        "because": f"It is decided when all runs have ended; {ended} of {count} have.",
    }  # fmt: skip


def _earlier(
    before: Mapping[str, Any], card: Mapping[str, Any], study: Study, root: Path
) -> list[dict[str, Any]]:
    """The verdicts that study.json held for other runs or claims, as with fewer seeds, in order:
    "with", what its card said otherwise, "runs" and "claims"."""
    earlier = list(before.get("earlier", ()))
    if not before.get("ended") or not before.get("claims") or study.is_in(before, root):
        return earlier
    return [*earlier, verdicts_of(before, card, len(before["cells"]))]


def verdicts_of(
    before: Mapping[str, Any], card: Mapping[str, Any], runs: int | None
) -> dict[str, Any]:
    """An entry of "earlier": what the content ``before`` said, "with" what ``card`` says otherwise;
    ``runs``: how many, where that is known."""
    others = {
        name: value
        for name, value in before.get("card", {}).items()
        if name not in (TIME, BEGUN, LOST) and card.get(name) != value
    }
    claims = [{"text": claim["text"], "holds": claim["holds"]} for claim in before["claims"]]
    return {"with": others, "runs": runs, "claims": claims}


def lost_runs(ended: Sequence[Cell], root: Path) -> str:
    """How many of the runs that have ended have collapsed or diverged, and which; "" for none.
    Their figures count like others; one whose features are not finite has none."""
    verdicts = {cell.name: cell.run(root).verdict or {} for cell in ended}
    lost = [name for name, verdict in verdicts.items() if verdict.get("label") == "collapsed"]
    return f"{len(lost)} of {plural(len(ended), 'run')}: {'; '.join(lost)}" if lost else ""


def time_of_runs(took: Sequence[Mapping[str, Any]]) -> str:
    """How long runs took in all, one after the other, from their cell.json; "" if none is known.

    >>> time_of_runs([{"seconds": 50.0, "device": "cpu", "threads": 1}] * 3 + [{}])
    '2 min with evaluation on 1 thread (3 runs); of 1 run it is not known'
    """
    known: dict[str, list[float]] = {}
    for each in took:
        if "seconds" in each:
            on = plural(each["threads"], "thread") if each["device"] == "cpu" else each["device"]
            known.setdefault(on, []).append(each["seconds"])
    parts = [
        f"{duration(sum(each))} with evaluation on {on} ({plural(len(each), 'run')})"
        for on, each in known.items()
    ]
    lacking = len(took) - sum(map(len, known.values()))
    if parts and lacking:
        parts.append(f"of {plural(lacking, 'run')} it is not known")
    return "; ".join(parts)


def place_of(name: str, root: Path, scale: str = USUAL_SCALE) -> Path:
    """Where a study's own files lie. A scale that is not the usual one overwrites nothing of it.

    >>> place_of("simclr/pairs", Path("studies/cifar10")).as_posix()
    'studies/cifar10/simclr-pairs'
    >>> place_of("simclr/pairs", Path("studies/cifar10"), "tiny").as_posix()
    'studies/cifar10/simclr-pairs-tiny'
    """
    suffix = "" if scale in (USUAL_SCALE, "") else f"-{scale}"
    return root / f"{name.replace('/', '-')}{suffix}"
