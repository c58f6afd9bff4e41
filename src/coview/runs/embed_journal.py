"""New vectors on the disk before their table is whole."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coview.core.errors import CoviewError
from coview.core.files import entries, exists
from coview.core.progress import say
from coview.core.temporary import is_written, mark
from coview.core.text import plural
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_schema import PREFIX
from coview.embeddings.table_writer import TableWriter
from coview.runs.embed_job import FINGERPRINT, Block, Job, columns_of, known_table

SAVE_SECONDS, SAVE_BYTES = 60.0, 64 << 20
"""New vectors are on the disk after so long, or when there are so many."""
MOST = 64
"""Files that are read as they are. More are joined first: an open one takes a descriptor, of which
a process has 1,024, on a Mac 256."""


class Journal:
    """New vectors on the disk while a table is being made, so that an interrupted call keeps them.

    They lie in files beside the table, which :meth:`remove` deletes once it is whole. ``count``: of
    the vectors that were saved. Other processes may have files there at the same time.
    """

    def __init__(self, path: Path | None, job: Job) -> None:
        self.folder = None if path is None else path.with_name(f".{path.stem}.unfinished")
        self.job, self.count = job, 0
        self._pending: list[Block] = []
        self._files: list[Path] = []
        self._last = time.monotonic()

    def tables(self) -> list[EmbeddingTable]:
        """What interrupted calls have left of the same network, the newest first."""
        if self.folder is None:
            return []
        names = [name for name in entries(self.folder) if name.endswith(".parquet")]
        if len(names) > MOST:
            names = self._join(names)
        found = {name: known_table(self.folder / name, self.job.network) for name in names[::-1]}
        tables = {name: table for name, table in found.items() if table is not None}
        self._files += [self.folder / name for name in tables if not _is_anothers(name)]
        return list(tables.values())

    def save(self, block: Block) -> None:
        """Rows that were embedded."""
        self.count += len(block["row"])
        if self.folder is None:
            return
        self._pending.append(block)
        size = sum(each[layer].nbytes for each in self._pending for layer in self.job.layers)
        if size >= SAVE_BYTES or time.monotonic() - self._last >= SAVE_SECONDS:
            self._write()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and self._pending:
            with contextlib.suppress(CoviewError, OSError):
                self._write()
                if isinstance(error, CoviewError):  # the same command would be refused again
                    say(f"The vectors of {plural(self.count, 'image')} are kept for later.")
                else:
                    say(f"{plural(self.count, 'image')} embedded; the same command goes on there.")

    def remove(self) -> None:
        """Delete what was saved: the table is whole."""
        if self.folder is not None and exists(self.folder):
            with contextlib.suppress(OSError):
                for path in self._files:
                    path.unlink(missing_ok=True)
                for name in entries(self.folder):
                    if is_written(name) is False:
                        (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()

    def _join(self, names: Sequence[str]) -> list[str]:
        """The names of fewer files: those that can be joined are, some at a time."""
        assert self.folder is not None
        size = -(-len(names) // (MOST // 2))
        joined: list[str] = []
        for start in range(0, len(names), size):
            paths = [self.folder / name for name in names[start : start + size]]
            free = [path for path in paths if not _is_anothers(path.name)]
            joined += [path.name for path in paths if path not in free]
            joined += _joined(free, self.job.network)
        return sorted(joined)

    def _write(self) -> None:
        assert self.folder is not None
        job = self.job
        path = self.folder / f"{time.time_ns()}-{mark()}.parquet"
        writer = TableWriter(
            path, job.layers, job.stream.class_names, job.all_metadata, images=job.images
        )
        with writer:
            for block in self._pending:
                writer.append(columns_of(job, block))
        self._files.append(path)
        self._pending, self._last = [], time.monotonic()


def _is_anothers(name: str) -> bool:
    """Whether another process that still runs has written the file."""
    return bool(is_written(name)) and f"-{os.getpid()}-" not in name


def _joined(paths: Sequence[Path], network: str) -> list[str]:
    """The names of the files that hold the rows of ``paths``, all in one folder, oldest first.

    Files of the same kind become one, which has the name of the newest; of files of another network
    nothing is read.
    """
    kinds: dict[tuple[str | None, ...], list[Path]] = {}
    for path in paths:
        table = known_table(path, network)
        if table is not None:
            kind = (table.metadata.get(f"{PREFIX}decoding"), *table.column_names)
            kinds.setdefault(kind, []).append(path)
    for same in kinds.values():
        if len(same) > 1:
            _join_files(same)
    return [same[-1].name for same in kinds.values()]


def _join_files(paths: Sequence[Path]) -> None:
    """The rows of all files in the last one, the newest first; the others are deleted."""
    last = EmbeddingTable.open(paths[-1])
    metadata = {name: text for name, text in last.metadata.items() if name != FINGERPRINT}
    with TableWriter(
        paths[-1], last.layers, last.class_names, metadata, images="image" in last.column_names
    ) as writer:
        for path in reversed(paths):
            table = EmbeddingTable.open(path)  # one at a time
            start = 0
            for group in table.groups():
                columns = {name: group.column(name).to_pylist() for name in table.column_names
                           if name not in table.layers}  # fmt: skip
                columns["path"] = table.paths[start : start + len(group)]
                for layer in table.layers:
                    vectors = group.column(layer).combine_chunks()
                    columns[layer] = vectors.flatten().to_numpy().reshape(len(group), -1)
                writer.append(columns)
                start += len(group)
    for path in paths[:-1]:
        path.unlink(missing_ok=True)
