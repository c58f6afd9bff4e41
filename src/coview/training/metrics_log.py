"""The metrics of a run, one JSON line a report, and their summary beside the progress bar."""

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
from coview.training.loggers import Loggers


class MetricsLog:
    """metrics.jsonl at ``path``, from which every curve is drawn.

    ``every``: steps between reports, counted from the first step of the run, so a resumed run
    reports the same steps. Opening the log at ``step`` drops the lines of later steps, which the
    resumed run writes again; ``step`` 0 drops all lines. ``loggers`` get the remaining lines and
    those that follow. ``chance_level`` is the loss of a network that has learned nothing. ``path``
    None writes nothing (a process that is not rank 0).

    >>> log = MetricsLog(None, chance_level=6.931)
    >>> _ = log.write("step", 10, loss=5.1034, seconds=2.0)
    >>> log.note(1.25)
    'epoch 1.2, loss 5.103 (chance 6.931)'
    """

    def __init__(
        self, path: Path | None, *, chance_level: float, every: int = 10, step: int = 0,
        loggers: Loggers | None = None,
    ) -> None:  # fmt: skip
        if every < 1:
            raise InvalidValue(f"`every` is {every}; expected at least 1 step between reports.")
        self.path, self.chance_level, self.every = path, chance_level, every
        self._unwritten: list[dict[str, Any]] = []
        rows = [] if path is None else truncate(path, step)
        reports = [row for row in rows if row["kind"] == "step"]
        accuracies = [row["accuracy"] for row in rows if row["kind"] == "knn"]
        self.loggers = loggers or Loggers()
        for row in rows:
            self.loggers.log(row)
        self.seconds: float = reports[-1]["seconds"] if reports else 0.0
        self._loss: float | None = reports[-1]["loss"] if reports else None
        self._accuracy: float | None = accuracies[-1] if accuracies else None

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def write(self, kind: str, step: int, **fields: Any) -> dict[str, Any]:
        """Append a line and return it; numbers that are not finite become null.

        On a full disk it prints the error once and writes the lines later.
        """
        row = {"kind": kind, "step": step, **{k: _finite(v) for k, v in fields.items()}}
        self._unwritten.append(row)
        self.loggers.log(row)
        try:
            self._flush()
        except StorageError as error:
            if len(self._unwritten) == 1:
                say(str(error))
        if kind == "step":
            self._loss, self.seconds = row["loss"], row["seconds"]
        elif kind == "knn":
            self._accuracy = row["accuracy"]
        return row

    def _flush(self) -> None:
        if self.path is None:
            self._unwritten.clear()
            return
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while self._unwritten:
            append_line(self.path, self._unwritten[0])
            del self._unwritten[0]

    def sync(self) -> None:
        """Make all lines durable. Raises StorageError on a full disk."""
        self._flush()
        if self.path is None:
            return
        with storage_errors(self.path):
            if self.path.exists():
                with self.path.open("rb") as stream:
                    os.fsync(stream.fileno())

    def note(self, epoch: float) -> str:
        """The last figures in words: "epoch 3.0, loss 5.103 (chance 6.931), kNN 41.0 %"."""
        loss = (
            []
            if self._loss is None
            else [f"loss {self._loss:.3f} (chance {self.chance_level:.3f})"]
        )
        knn = [] if self._accuracy is None else [f"kNN {self._accuracy:.1%}".replace("%", " %")]
        return ", ".join([f"epoch {epoch:.1f}", *loss, *knn])


def truncate(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines of later steps in one atomic replacement; returns the remaining lines.

    Also drops a truncated last line. ``step`` 0 drops all lines.
    """
    rows = [row for row in read_lines(path) if 0 < step >= row["step"]]
    content = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    if path.exists() and path.read_bytes() != content.encode():
        write_text(path, content)
    return rows


def _finite(value: Any) -> Any:
    """``value`` with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
