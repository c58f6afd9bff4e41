"""The record of a run, one JSON line a report, and the line of figures beside the progress bar."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, StorageError
from coview.core.files import append_line, read_lines, storage_errors, write_text
from coview.core.progress import say


class MetricsLog:
    """metrics.jsonl at ``path``: source of truth for every curve.

    A step is reported after every ``every`` steps, counted from the run's beginning, so that a
    resumed run reports the same steps as one that never stopped. Opening the record at ``step``
    drops the lines of later steps, which the resumed run will write again; at step 0 that is all.
    ``chance`` is the loss at which nothing has been learned. ``path`` None keeps no record: that of
    a process which is not the first of its run.
    """

    def __init__(self, path: Path | None, *, chance: float, every: int = 10, step: int = 0) -> None:
        if every < 1:
            raise InvalidValue(f"A report every {every} steps cannot be; give 1 or more.")
        self.path, self.chance_level, self.every = path, chance, every
        self._unwritten: list[dict[str, Any]] = []
        rows = [] if path is None else truncate(path, step)
        reports = [row for row in rows if row["kind"] == "step"]
        accuracies = [row["accuracy"] for row in rows if row["kind"] == "knn"]
        self.seconds: float = reports[-1]["seconds"] if reports else 0.0
        self._loss: float | None = reports[-1]["loss"] if reports else None
        self._accuracy: float | None = accuracies[-1] if accuracies else None

    def due(self, step: int) -> bool:
        """Whether the step with this number (the first has 1) is reported."""
        return step % self.every == 0

    def write(self, kind: str, step: int, **fields: Any) -> dict[str, Any]:
        """Append a line and return it; figures that are not finite are written as null.

        Where the disk refuses, the user is told once, and the lines follow when there is room.
        """
        row = {"kind": kind, "step": step, **{k: _finite(v) for k, v in fields.items()}}
        self._unwritten.append(row)
        try:
            self._catch_up()
        except StorageError as error:
            if len(self._unwritten) == 1:
                say(str(error))
        if kind == "step":
            self._loss, self.seconds = row["loss"], row["seconds"]
        elif kind == "knn":
            self._accuracy = row["accuracy"]
        return row

    def _catch_up(self) -> None:
        if self.path is None:
            self._unwritten.clear()
            return
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while self._unwritten:
            append_line(self.path, self._unwritten[0])
            del self._unwritten[0]

    def sync(self) -> None:
        """Make all lines durable. Raises StorageError where the disk refuses."""
        self._catch_up()
        if self.path is None:
            return
        with storage_errors(self.path):
            if self.path.exists():
                with self.path.open("rb") as stream:
                    os.fsync(stream.fileno())

    def note(self) -> str:
        """The figures for a person: "loss 5.103 (chance 6.931), kNN 41.0 %"."""
        loss = (
            []
            if self._loss is None
            else [f"loss {self._loss:.3f} (chance {self.chance_level:.3f})"]
        )
        knn = [] if self._accuracy is None else [f"kNN {self._accuracy:.1%}".replace("%", " %")]
        return ", ".join(loss + knn)


def truncate(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop every line of a later step than ``step``, in one atomic replacement; what is left.

    So is a line that a crash has cut off. A run at step 0 begins anew, with the line of the
    untrained network: nothing is left.
    """
    kept = [row for row in read_lines(path) if 0 < step >= row["step"]]
    content = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
    if path.exists() and path.read_bytes() != content.encode():
        write_text(path, content)
    return kept


def _finite(value: Any) -> Any:
    """``value`` with every number in it that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
