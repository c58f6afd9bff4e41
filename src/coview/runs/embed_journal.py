"""New vectors on the disk before their table is whole."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from coview.core.errors import CoviewError
from coview.core.files import entries, exists
from coview.core.progress import say
from coview.core.text import plural
from coview.embeddings.table import EmbeddingTable
from coview.embeddings.table_writer import TableWriter
from coview.runs.embed_job import Block, Job, columns_of, known_table

SAVE_SECONDS, SAVE_BYTES = 60.0, 64 << 20
"""New vectors are on the disk after so long, or when there are so many."""


class Journal:
    """New vectors on the disk while a table is being made, so that an interrupted call keeps them.

    They lie in files beside the table, which :meth:`remove` deletes once it is whole. ``count``: of
    the vectors that were saved.
    """

    def __init__(self, path: Path | None, job: Job) -> None:
        self.folder = None if path is None else path.with_name(f".{path.stem}.unfinished")
        self.job, self.count = job, 0
        self._pending: list[Block] = []
        self._last = time.monotonic()

    def tables(self) -> list[EmbeddingTable]:
        """What interrupted calls have left of the same network, the newest first."""
        if self.folder is None:
            return []
        paths = [self.folder / name for name in reversed(entries(self.folder))]
        tables = [
            known_table(path, self.job.network) for path in paths if path.suffix == ".parquet"
        ]
        return [table for table in tables if table is not None]

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
                for name in entries(self.folder):
                    (self.folder / name).unlink()
                self.folder.rmdir()

    def _write(self) -> None:
        assert self.folder is not None
        job = self.job
        writer = TableWriter(
            self.folder / f"{time.time_ns()}-{os.getpid()}.parquet", job.layers,
            job.stream.class_names, job.all_metadata, images=job.images,
        )  # fmt: skip
        with writer:
            for block in self._pending:
                writer.append(columns_of(job, block))
        self._pending, self._last = [], time.monotonic()
