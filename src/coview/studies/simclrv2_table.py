"""The tables of SimCLRv2's pipeline, from the folders of its runs, beside the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.run_folder import RunFolder, read_object
from coview.evaluation import mean_interval
from coview.reports.formatting import MISSING, millions
from coview.studies.cell import Cell
from coview.studies.claims import signed

POINTS = 15.0
"""By how many points fine-tuning beats training from scratch at the fewest labels, in the claim."""
Share = Callable[[RunFolder], float | None]


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
    """A row of the table: a result of the cell ``of`` each entry, by protocol and subject.

    ``paper``: the figures of SimCLRv2 on ImageNet for 1 % and 10 % of the labels, with their
    networks; "" where there are none.
    """

    name: str
    of: str
    protocol: str
    subject: str
    paper: str = ""

    def value(self, entry: Entry, root: Path) -> float | None:
        return accuracy(getattr(entry, self.of), root, self.protocol, self.subject)


# SimCLRv2: README of the authors' code (fine-tuned), abstract (the small student); SimCLR, table 7
# (from scratch, a ResNet-50). The self-distilled figures are from other people's tables.
ROWS = (
    Row(name="large, from scratch", of="tuned", protocol="finetune", subject="from scratch",
        paper="25.4 / 56.4 (ResNet-50)"),
    Row(name="large, linear probe", of="tuned", protocol="finetune", subject="linear probe"),
    Row(name="large, fine-tuned", of="tuned", protocol="finetune", subject="fine-tuned",
        paper="74.9 / 80.1 (ResNet-152 x3+SK)"),
    Row(name="large, distilled to itself", of="alike", protocol="distill", subject="student",
        paper="76.6 / 80.9 (ResNet-152 x3+SK; as others quote it)"),
    Row(name="small, labels alone", of="small", protocol="distill", subject="labels alone",
        paper="25.4 / 56.4 (ResNet-50)"),
    Row(name="small, distilled", of="small", protocol="distill", subject="student",
        paper="73.9 / 77.5 (ResNet-50)"),
)  # fmt: skip
SCRATCH, TUNED, ALIKE, ALONE, SMALL = (ROWS[i] for i in (0, 2, 3, 4, 5))
GAINS = (
    ("fine-tuned over from scratch", TUNED, SCRATCH),
    ("distilled to itself over fine-tuned", ALIKE, TUNED),
    ("small, distilled over its labels alone", SMALL, ALONE),
    ("small, distilled over the large one fine-tuned", SMALL, TUNED),
)


def summarize(
    root: Path, entries: Sequence[Entry], layers: Mapping[tuple[int, int], Cell], fewest: str
) -> dict[str, Any]:
    """Tables and claims of what has ended in ``root``; see ``coview.studies.execution.Figures``.

    ``layers``: the fine-tuning of ``fewest`` labels by (layer, draw).
    """
    shares = list(dict.fromkeys(entry.labels for entry in entries))
    figures = {
        row.name: {share: _values(row, entries, share, root) for share in shares} for row in ROWS
    }
    return {
        "figures": figures,
        "tables": [
            _accuracies(figures, entries, shares, root),
            _gains(entries, shares, root),
            _layers(root, layers, fewest),
        ],
        "claims": _claims(entries, fewest, root),
    }


def accuracy(cell: Cell, root: Path, protocol: str, subject: str) -> float | None:
    """The test accuracy of ``subject`` in per cent; None where the run has not ended."""
    if not cell.is_ended(root):
        return None
    file = read_object(cell.run(root).evaluation_path / f"{protocol}.json") or {}
    for result in file.get("results", ()):
        if (result["subject"], result["metric"]) == (subject, "accuracy"):
            return 100 * float(result["value"])
    return None


def mean_and_half(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and half of its 95 % interval by Student's t; None for a single value.

    >>> mean, half = mean_and_half([1.0, 2.0, 3.0])
    >>> mean, round(half, 3)
    (2.0, 2.484)
    """
    mean = statistics.fmean(values)
    return mean, None if len(values) < 2 else mean_interval(values)[1] - mean


def shown(values: Sequence[float], *, sign: bool = False) -> str:
    """Mean and interval in one cell of a table; ``sign``: of differences.

    An interval of per cent that would leave 0 to 100 is written by its ends within them.

    >>> shown([50.0, 52.0, 54.0]), shown([90.0, 99.0]), shown([-1.0], sign=True)
    ('52.0 \N{PLUS-MINUS SIGN} 5.0', '94.5 (37.3 to 100.0)', '\N{MINUS SIGN}1.0')
    """
    if not values:
        return MISSING
    mean, half = mean_and_half(values)
    text = signed(mean) if sign else f"{mean:.1f}"
    if half is None:
        return text
    low, high = mean - half, mean + half
    if not sign and not 0 <= low <= high <= 100:
        return f"{text} ({max(low, 0.0):.1f} to {min(high, 100.0):.1f})"
    return f"{text} \N{PLUS-MINUS SIGN} {half:.1f}"


def _values(row: Row, entries: Sequence[Entry], share: str, root: Path) -> list[float]:
    values = (row.value(entry, root) for entry in entries if entry.labels == share)
    return [value for value in values if value is not None]


def _accuracies(
    figures: Mapping[str, Mapping[str, list[float]]], entries: Sequence[Entry],
    shares: Sequence[str], root: Path,
) -> dict[str, Any]:  # fmt: skip
    sizes = {name: _parameters(entries, name, root) for name in ("tuned", "alike", "small")}
    return {
        "title": "Accuracy",
        "note": "Per cent of the test images, and the 95 % interval over the draws of labels. "
        "Beside them SimCLRv2 and SimCLR on ImageNet, top-1 with 1 % and 10 % of the labels.",
        "columns": ["network", "parameters", *(f"{share} of the labels" for share in shares),
                    "published, 1 % / 10 %"],
        "rows": [
            [row.name, sizes[row.of], *(shown(figures[row.name][share]) for share in shares),
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


def _differences(
    entries: Sequence[Entry], share: str, root: Path, one: Row, other: Row
) -> list[float]:
    """``one`` - ``other`` in points, draw by draw."""
    pairs = [(one.value(e, root), other.value(e, root)) for e in entries if e.labels == share]
    return [a - b for a, b in pairs if a is not None and b is not None]


def _gains(entries: Sequence[Entry], shares: Sequence[str], root: Path) -> dict[str, Any]:
    return {
        "title": "Gains",
        "note": "Points of accuracy, paired by the draw of labels, with the 95 % interval.",
        "columns": ["comparison", *(f"{share} of the labels" for share in shares)],
        "rows": [
            [name, *(
                shown(_differences(entries, share, root, one, other), sign=True)
                for share in shares
            )]
            for name, one, other in GAINS
        ],
    }  # fmt: skip


def _layers(root: Path, layers: Mapping[tuple[int, int], Cell], fewest: str) -> dict[str, Any]:
    numbers = list(dict.fromkeys(layer for layer, _ in layers))
    found = {
        number: [
            value
            for (layer, _), cell in layers.items()
            if layer == number
            and (value := accuracy(cell, root, "finetune", "fine-tuned")) is not None
        ]
        for number in numbers
    }
    return {
        "title": "Layers of the projection head",
        "note": f"Fine-tuned on {fewest} of the labels from this layer of the head; 0 is the "
        "output of the encoder.",
        "columns": ["layer", "accuracy"],
        "rows": [[str(number), shown(values)] for number, values in found.items()],
    }


def claims_about(fewest: str) -> tuple[tuple[str, Row, Row, float], ...]:
    """(sentence, one, other, points): ``one`` is better than ``other`` by more than the points."""
    return (
        (f"Fine-tuning beats training from scratch at {fewest} of the labels by {POINTS:g} points",
         TUNED, SCRATCH, POINTS),
        (f"Distillation into itself improves the fine-tuned network at {fewest} of the labels",
         ALIKE, TUNED, 0.0),
        (f"Distillation gives the small network more than {fewest} of the labels alone",
         SMALL, ALONE, 0.0),
    )  # fmt: skip


def _claims(entries: Sequence[Entry], fewest: str, root: Path) -> list[dict[str, Any]]:
    return [
        _claim(text, _differences(entries, fewest, root, one, other), least)
        for text, one, other, least in claims_about(fewest)
    ]


def _claim(text: str, differences: Sequence[float], least: float) -> dict[str, Any]:
    """Holds where the whole interval lies above ``least``, does not where it lies below."""
    if not differences:
        return {"text": text, "holds": None, "because": "No draw has ended yet."}
    mean, half = mean_and_half(differences)
    if half is None:
        because = f"The difference is {signed(mean)} points in one draw, without an interval."
        return {"text": text, "holds": None, "because": because}
    because = (
        f"The difference is {signed(mean)} points, 95 % interval {signed(mean - half)} to "
        f"{signed(mean + half)} over {len(differences)} draws."
    )
    holds = True if mean - half > least else False if mean + half < least else None
    return {"text": text, "holds": holds, "because": because}
