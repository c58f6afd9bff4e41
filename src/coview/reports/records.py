"""All that a report shows of one run, read from its files. Only ``run.json`` must be there.

A run that was killed leaves half a line or no verdict. What cannot be read is left out and named in
``damaged``, so that the report says so instead of failing.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from coview.core.errors import CoviewError, DamagedFile, RunError
from coview.core.files import read_content
from coview.core.run_folder import RunFolder, planned_steps, read_object
from coview.core.run_lock import is_being_written

Series = tuple[list[float], list[float]]
Value = TypeVar("Value")

# The errors of numpy, zip and zlib for a file that is cut, altered or of another format.
UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError,
    SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

# Number of axes of each array in the gallery.
GALLERY_AXES = {
    "near_pictures": 5, "near_names": 2, "near_labels": 2, "near_cosines": 2, "searched": 1,
    "map": 2, "names": 1, "labels": 1, "sheet": 1, "sheet_layout": 1,
    "pair_views": 5, "pair_cosines": 1, "pair_names": 1, "pair_sample": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """The content of a run folder; nothing is computed here.

    ``description`` is run.json, ``total_steps`` are those last planned. ``steps`` are the "step"
    lines of metrics.jsonl, ``health`` the "health" lines and so on, each in order of step; where a
    resumed run has written a step twice, the later line counts. ``gallery`` holds the arrays of the
    gallery that have the expected number of axes. ``damaged`` has one sentence per file that could
    not be read. ``running``: whether a process writes the run now.
    """

    folder: Path
    kind: str
    description: dict[str, Any]
    total_steps: int
    steps: list[dict[str, Any]]
    health: list[dict[str, Any]]
    knn: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    events: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    verdict: dict[str, Any]
    evaluations: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    gallery: dict[str, npt.NDArray[Any]]
    views: bytes | None
    found: bytes | None = None
    damaged: list[str] = field(default_factory=list)
    running: bool = False

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; empty where the images have no labels."""
        names = part(self.description, "data").get("class_names")
        return [str(name) for name in names] if isinstance(names, list) else []

    def evaluation(self, protocol: str) -> dict[str, Any]:
        """The evaluation by ``protocol``; empty where there is none."""
        return next((e for e in self.evaluations if e.get("protocol") == protocol), {})


def read_record(folder: str | Path, *, running: bool | None = None) -> Record:
    """The record of the run in ``folder``. Raises RunError where the folder is not a run.

    ``running``: whether a process writes it; None looks.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "run.json").write_text('{"kind": "pretrain", "total_steps": 400}')
    >>> _ = (folder / "verdict.json").write_text('{"lab')
    >>> record = read_record(folder)
    >>> record.description["total_steps"], len(record.damaged)
    (400, 1)
    """
    run = RunFolder.open(folder)
    try:
        description = read_object(run.description_path) or {}
    except DamagedFile as error:
        raise RunError(f"{folder} is not a readable run: {error}") from error
    kind = str(description.get("kind", "pretrain"))
    damaged: list[str] = []

    def read(reader: Callable[[], Value]) -> Value | None:
        try:
            return reader()
        except CoviewError as error:
            damaged.append(str(error).replace(f"{run.path}{os.sep}", ""))
            return None

    rows = read(run.metrics) or []
    paths = read(lambda: run.evaluation_paths) or []
    evaluations = [read(partial(read_object, path)) for path in paths]
    return Record(
        folder=run.path, kind=kind, description=description,
        total_steps=planned_steps(description, rows), steps=_latest(rows, "step"),
        health=_latest(rows, "health"), knn=_latest(rows, "knn"),
        validation=_latest(rows, "validation"),
        events=[row for row in rows if row.get("kind") == "event"],
        skipped=[row for row in rows if row.get("kind") == "skipped"],
        verdict=read(lambda: read_object(run.verdict_path) or {}) or {},
        evaluations=[evaluation for evaluation in evaluations if evaluation],
        quarantine=read(lambda: run.quarantine) or [],
        gallery=read(lambda: _read_gallery(run.gallery_path)) or {},
        views=read(lambda: read_content(run.views_path)),
        found=read(lambda: read_content(run.found_path)), damaged=damaged,
        running=is_being_written(run.path) if running is None else running,
    )  # fmt: skip


def part(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under ``key``, or an empty one where there is none."""
    item = value.get(key)
    return item if isinstance(item, dict) else {}


def number(value: Any) -> float | None:
    """``value`` as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def series(rows: list[dict[str, Any]], key: str, *, axis: str = "epoch") -> Series:
    """The finite values of ``key`` against ``axis``; rows without one of them are left out."""
    pairs = [(number(row.get(axis)), number(row.get(key))) for row in rows]
    finite = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in finite], [y for _, y in finite]


def _latest(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    by_step = {
        step: row
        for row in rows
        if row.get("kind") == kind and (step := number(row.get("step"))) is not None
    }
    return [by_step[step] for step in sorted(by_step)]


def _read_gallery(path: Path) -> dict[str, npt.NDArray[Any]]:
    content = read_content(path)
    if content is None:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in GALLERY_AXES if name in archive}
    except UNREADABLE as error:
        raise DamagedFile(f"{path} is not a readable gallery ({error}).") from error
    return {name: array for name, array in arrays.items() if array.ndim == GALLERY_AXES[name]}
