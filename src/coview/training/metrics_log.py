"""The metrics of a run, one JSON line a report, and their summary beside the progress bar."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, StorageError
from coview.core.files import (
    append_line,
    exists,
    parse_lines,
    read_content,
    storage_errors,
    write_bytes,
    write_text,
)
from coview.core.plain import finite
from coview.core.progress import say
from coview.core.run_folder import is_report
from coview.training.loggers import Loggers


class MetricsLog:
    """metrics.jsonl at ``path``, from which every curve is drawn.

    ``every``: steps between reports, counted from the first step of the run, so a resumed run
    reports the same steps. Opening the log at ``step`` drops the lines of later steps, which the
    resumed run writes again; ``step`` 0 drops all lines. ``record``: the :attr:`content` of the log
    at that step, as the checkpoint keeps it, which mends a file that was damaged; "" takes the
    lines of the file that can be read. ``loggers`` get the remaining lines and
    those that follow. ``chance_level`` is the loss of a network that has learned nothing. ``path``
    None writes nothing (a process that is not rank 0).

    >>> log = MetricsLog(None, chance_level=6.931)
    >>> _ = log.write("step", 10, loss=5.1034, seconds=2.0)
    >>> log.note(1.25)
    'epoch 1.2, loss 5.103 (chance 6.931)'
    """

    def __init__(
        self, path: Path | None, *, chance_level: float, every: int = 10, step: int = 0,
        record: str = "", loggers: Loggers | None = None,
    ) -> None:  # fmt: skip
        if every < 1:
            raise InvalidValue(f"`every` is {every}; expected at least 1 step between reports.")
        self.path, self.chance_level, self.every = path, chance_level, every
        self._unwritten: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = [] if path is None else open_record(path, step, record)
        self.loggers = loggers or Loggers()
        for row in self.rows:
            self.loggers.log(row)
        self.seconds = last_number(self.rows, "step", "seconds") or 0.0
        self._loss = last_number(self.rows, "step", "loss")
        self._accuracy = last_number(self.rows, "knn", "accuracy")

    @property
    def content(self) -> str:
        """The lines of the whole run so far, as they should be in the file."""
        return lines_of(self.rows)

    def mend(self) -> None:
        """Write the file again where it does not hold what was reported. Raises StorageError."""
        self._flush()
        if self.path is not None and read_content(self.path) != self.content.encode():
            write_text(self.path, self.content)

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def write(self, kind: str, step: int, **fields: Any) -> dict[str, Any]:
        """Append a line and return it; numbers that are not finite become null.

        On a full disk it prints the error once and writes the lines later.
        """
        row = {"kind": kind, "step": step, **{k: finite(v) for k, v in fields.items()}}
        self.rows.append(row)
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
            if exists(self.path):
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


def open_record(path: Path, step: int, record: str = "") -> list[dict[str, Any]]:
    """The lines up to ``step``: those of ``record``, or else of the file, which then holds them.

    The file is replaced in one atomic step. Lines that are damaged or no reports are dropped;
    ``step`` 0 drops all lines.
    """
    content = read_content(path)
    in_file = reports_of(content or b"", step)
    rows = reports_of(record.encode(), step) if record else in_file
    if rows != in_file:
        say(f"{path.name} was damaged or lacked lines; the checkpoint has them all.")
    text = lines_of(rows).encode()
    if text != (content or b""):
        write_bytes(path, text)
    return rows


def reports_of(content: bytes, step: int) -> list[dict[str, Any]]:
    """The lines that are reports of steps up to ``step``.

    >>> reports_of(b'{"kind": "step", "step": 3}\\n{"step": 4}\\n[5]\\n{"kind": "st', 9)
    [{'kind': 'step', 'step': 3}]
    """
    return [
        row for row in parse_lines(content)
        if isinstance(row, dict) and is_report(row) and 0 < step >= row["step"]
    ]  # fmt: skip


def lines_of(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def last_number(rows: Sequence[Mapping[str, Any]], kind: str, name: str) -> float | None:
    """The last number of that name in the lines of ``kind``; None where there is none."""
    values = [row.get(name) for row in rows if row["kind"] == kind]
    numbers = [value for value in values if isinstance(value, int | float)]
    return numbers[-1] if numbers else None
