"""The files of a run as one value. Only ``run.json`` must be there; the rest may be missing.

A run that was killed leaves half a line or no verdict at all; what is unreadable is left out and
named in ``damaged``, so that the report says so instead of failing.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError, RunError
from coview.core.files import read_json, read_lines
from coview.core.run_folder import DESCRIPTION, run_folder

Series = tuple[list[float], list[float]]

# Whatever numpy, zip and zlib raise for a file that is cut, altered or something else.
UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError,
    SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

SHAPES = {
    "thumbnails": 4, "names": 1, "labels": 1, "map": 2, "query_rows": 1, "neighbor_rows": 2,
    "neighbor_cosines": 2, "pair_views": 5, "pair_cosines": 1, "pair_names": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """Everything that a report shows, as read; nothing is computed here.

    ``steps`` are the "step" lines of metrics.jsonl, ``health`` the "health" lines and so on, each
    in order of step; where a resumed run has written a step twice, the later line stands.
    ``gallery`` holds the arrays of report/gallery.npz that have the expected number of axes.
    """

    folder: Path
    run: dict[str, Any]
    steps: list[dict[str, Any]]
    health: list[dict[str, Any]]
    knn: list[dict[str, Any]]
    events: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    verdict: dict[str, Any]
    evaluations: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    gallery: dict[str, npt.NDArray[Any]]
    views: bytes | None
    damaged: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the run: that of its folder."""
        return self.folder.resolve().name

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; empty where the images have no labels."""
        return [str(name) for name in part(self.run, "data").get("class_names") or []]


def read_record(folder: Path) -> Record:
    """The record of the run in ``folder``. Raises RunError where the folder is not a run."""
    run = _description(folder)
    damaged: list[str] = []
    lines = _objects(folder / "metrics.jsonl", damaged)
    verdict = _whole(folder / "verdict.json", damaged)
    evaluations = [_whole(path, damaged) for path in sorted((folder / "evaluation").glob("*.json"))]
    return Record(
        folder=folder,
        run=run,
        steps=_latest(lines, "step"),
        health=_latest(lines, "health"),
        knn=_latest(lines, "knn"),
        events=[line for line in lines if line.get("kind") == "event"],
        refused=[line for line in lines if line.get("kind") == "skipped"],
        verdict=verdict,
        evaluations=[found for found in evaluations if found],
        quarantine=_objects(folder / "quarantine.jsonl", damaged),
        gallery=_gallery(folder / "report" / "gallery.npz", damaged),
        views=_bytes(folder / "report" / "views.png"),
        damaged=damaged,
    )


def part(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under ``key``, or an empty one where there is none."""
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def series(lines: list[dict[str, Any]], key: str, *, axis: str = "epoch") -> Series:
    """The finite values of ``key`` against ``axis``; lines without one of them are left out."""
    pairs = [(number(line.get(axis)), number(line.get(key))) for line in lines]
    whole = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in whole], [y for _, y in whole]


def _description(folder: Path) -> dict[str, Any]:
    path = run_folder(folder) / DESCRIPTION
    try:
        run = read_json(path)
    except (CoviewError, OSError) as error:
        raise RunError(f"{folder} is not a readable run: {error}") from error
    if not isinstance(run, dict):
        raise RunError(f"{folder} is not a readable run: {path} should hold one JSON object.")
    return run


def _objects(path: Path, damaged: list[str]) -> list[dict[str, Any]]:
    try:
        return [line for line in read_lines(path) if isinstance(line, dict)]
    except (OSError, UnicodeDecodeError) as error:
        damaged.append(f"{path.name} could not be read ({error}).")
        return []


def _whole(path: Path, damaged: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = read_json(path)
    except (CoviewError, OSError) as error:
        damaged.append(f"{path.name} could not be read ({error}).")
        return {}
    return found if isinstance(found, dict) else {}


def _latest(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    by_step = {
        step: line
        for line in lines
        if line.get("kind") == kind and (step := number(line.get("step"))) is not None
    }
    return [by_step[step] for step in sorted(by_step)]


def _gallery(path: Path, damaged: list[str]) -> dict[str, npt.NDArray[Any]]:
    if not path.exists():
        return {}
    try:
        # Opened here, because numpy leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in SHAPES if name in archive}
    except UNREADABLE as error:
        damaged.append(f"{path.name} could not be read ({error}).")
        return {}
    return {name: array for name, array in arrays.items() if array.ndim == SHAPES[name]}


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
