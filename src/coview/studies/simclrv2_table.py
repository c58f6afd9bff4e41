"""The tables of SimCLRv2's pipeline, from the folders of its runs, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.reports.formatting import MISSING, millions
from coview.studies.cell import Cell
from coview.studies.claims import Claim, FiguresOf, decide, greater
from coview.studies.few_labels import PROBE, SCRATCH, TUNED
from coview.studies.measure import Measure
from coview.studies.simclrv2_parts import ALONE, STUDENT
from coview.studies.tables import shown

POINTS = 15.0
"""By how many points fine-tuning beats training from scratch at the fewest labels, in the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The cells of one draw of one share of the labels."""

    labels: str
    draw: int
    tuned: Cell
    alike: Cell
    small: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: a figure of the cell ``of`` each entry.

    ``paper``: the figures of SimCLRv2 on ImageNet for 1 % and 10 % of the labels, with their
    networks; "" where there are none.
    """

    name: str
    of: str
    measure: Measure
    paper: str = ""

    def value(self, entry: Entry, root: Path) -> float | None:
        return value_of(getattr(entry, self.of), self.measure, root)


# SimCLRv2: README of the authors' code (fine-tuned), abstract (the small student); SimCLR, table 7
# (from scratch, a ResNet-50). The self-distilled figures are from memory.
ROWS = (
    Row(name="large, from scratch", of="tuned", measure=SCRATCH, paper="25.4 / 56.4 (ResNet-50)"),
    Row(name="large, linear probe", of="tuned", measure=PROBE),
    Row(name="large, fine-tuned", of="tuned", measure=TUNED,
        paper="74.9 / 80.1 (ResNet-152 x3+SK)"),
    Row(name="large, distilled to itself", of="alike", measure=STUDENT,
        paper="76.6 / 80.9 (ResNet-152 x3+SK; from memory, not checked)"),
    Row(name="small, labels alone", of="small", measure=ALONE, paper="25.4 / 56.4 (ResNet-50)"),
    Row(name="small, distilled", of="small", measure=STUDENT, paper="73.9 / 77.5 (ResNet-50)"),
)  # fmt: skip
LARGE_SCRATCH, _, LARGE, ALIKE, SMALL_ALONE, SMALL = (row.name for row in ROWS)
GAINS = {
    "fine-tuned over from scratch": greater(LARGE, LARGE_SCRATCH),
    "distilled to itself over fine-tuned": greater(ALIKE, LARGE),
    "small, distilled over its labels alone": greater(SMALL, SMALL_ALONE),
    "small, distilled over the large one fine-tuned": greater(SMALL, LARGE),
}


def claims_about(fewest: str) -> tuple[Claim, ...]:
    """The claims; an arm is a row of the table at the ``fewest`` labels."""
    return (
        Claim(
            text="Fine-tuning beats training from scratch at "
            f"{fewest} of the labels by {POINTS:g} points",
            comparisons=(greater(LARGE, LARGE_SCRATCH, by=POINTS),),
        ),
        Claim(
            text="Distillation into itself improves the fine-tuned network at "
            f"{fewest} of the labels",
            comparisons=(greater(ALIKE, LARGE),),
        ),
        Claim(
            text=f"Distillation gives the small network more than {fewest} of the labels alone",
            comparisons=(greater(SMALL, SMALL_ALONE),),
        ),
    )


def summarize(
    root: Path, entries: Sequence[Entry], layers: Mapping[tuple[int, int], Cell], fewest: str
) -> dict[str, Any]:
    """Tables and claims of what has ended in ``root``; see ``coview.studies.execution.Figures``.

    ``layers``: the fine-tuning of ``fewest`` labels by (layer, draw).
    """
    shares = list(dict.fromkeys(entry.labels for entry in entries))
    figures = {share: _figures(entries, share, root) for share in shares}
    return {
        "rows": [
            {
                "arm": row.name, "labels": entry.labels, "draw": entry.draw,
                "folder": getattr(entry, row.of).folder(root).name,
                "accuracy": row.value(entry, root),
            }
            for row in ROWS
            for entry in entries
        ],
        "tables": [
            _accuracies(figures, entries, root),
            _gains(figures),
            _layers(root, layers, fewest),
        ],
        "claims": decide(claims_about(fewest), figures[fewest], unit="draw"),
    }  # fmt: skip


def value_of(cell: Cell, measure: Measure, root: Path) -> float | None:
    """None where the run has not ended."""
    return measure.read(cell.run(root)) if cell.is_ended(root) else None


def _figures(entries: Sequence[Entry], share: str, root: Path) -> FiguresOf:
    """(row, "") -> its figure for every draw of this share of the labels."""
    own = [entry for entry in entries if entry.labels == share]
    found = {row.name: [row.value(entry, root) for entry in own] for row in ROWS}
    return lambda row, _: found[row]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _accuracies(
    figures: Mapping[str, FiguresOf], entries: Sequence[Entry], root: Path
) -> dict[str, Any]:
    sizes = {name: _parameters(entries, name, root) for name in ("tuned", "alike", "small")}
    return {
        "title": "Accuracy",
        "note": "Per cent of the test images, and the 95 % interval over the draws of labels. "
        "Beside them SimCLRv2 and SimCLR on ImageNet, top-1 with 1 % and 10 % of the labels.",
        "columns": ["network", "parameters", *(f"{share} of the labels" for share in figures),
                    "published, 1 % / 10 %"],
        "rows": [
            [row.name, sizes[row.of],
             *(shown(_known(each(row.name, "")), percent=True) for each in figures.values()),
             row.paper or MISSING]
            for row in ROWS
        ],
    }  # fmt: skip


def _parameters(entries: Sequence[Entry], of: str, root: Path) -> str:
    for entry in entries:
        cell: Cell = getattr(entry, of)
        if cell.is_ended(root):
            return millions(sum(cell.run(root).description["parameters"].values()))
    return MISSING


def _gains(figures: Mapping[str, FiguresOf]) -> dict[str, Any]:
    return {
        "title": "Gains",
        "note": "Points of accuracy, paired by the draw of labels, with the 95 % interval.",
        "columns": ["comparison", *(f"{share} of the labels" for share in figures)],
        "rows": [
            [name, *(shown(gain.values(each), sign=True) for each in figures.values())]
            for name, gain in GAINS.items()
        ],
    }


def _layers(root: Path, layers: Mapping[tuple[int, int], Cell], fewest: str) -> dict[str, Any]:
    found: dict[int, list[float | None]] = {}
    for (layer, _), cell in layers.items():
        found.setdefault(layer, []).append(value_of(cell, TUNED, root))
    return {
        "title": "Layers of the projection head",
        "note": f"Fine-tuned on {fewest} of the labels from this layer of the head; 0 is the "
        "output of the encoder.",
        "columns": ["layer", "accuracy"],
        "rows": [
            [str(layer), shown(_known(values), percent=True)] for layer, values in found.items()
        ],
    }
